"""The autoencoder lab: any picture there and back by each autoencoder at hand."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import gradio as gr
from PIL import Image

from app import inside, text
from app.context import Context
from app.job import JobState
from app.tabs.events import QUICK, Update, owner_of, refusal, viewers
from app.tabs.looks import run
from app.tabs.uploads import picture_file
from models.errors import StudioError
from pipelines.request import GenerationRequest

if TYPE_CHECKING:
    from evaluation.reconstruction import Comparison

MAX_FOLDERS = 24  # autoencoders that are compared at once


class Lab:
    """Builds the lab into the Blocks that are open, and holds its handlers."""

    def __init__(self, context: Context, browser: gr.BrowserState) -> None:
        self.context = context
        gr.HTML(f'<p class="ls-quiet">{text.LAB_HINT}</p>', apply_default_css=False)
        self.picture = picture_file(
            label=text.LAB_PICTURE, sources=["upload", "clipboard"], height=220, buttons=[],
            elem_id="lab-picture",
        )  # fmt: skip
        self.start = gr.Button(text.LAB_START, elem_classes="ls-do", elem_id="lab")
        self.shown = gr.Radio([], label=text.LAB_SHOWN, visible=False, elem_id="lab-shown")
        self.slider = gr.ImageSlider(
            label=text.LAB_SLIDER,
            show_label=False,
            interactive=False,
            visible=False,
            buttons=[],
            elem_id="lab-slider",
        )
        self.table = gr.HTML("", apply_default_css=False, elem_id="lab-table")
        self.progress = gr.HTML("", apply_default_css=False, elem_id="lab-progress")
        self.compared = gr.State("")
        seen = [self.compared, self.progress, self.shown, self.slider, self.table]
        self.start.click(self.compare, [browser, self.picture], seen, **viewers(context))
        chosen = [browser, self.compared, self.shown]
        self.shown.input(self.choose_autoencoder, chosen, [self.slider], **QUICK)

    def compare(self, browser: str, picture: str | None, request: gr.Request) -> Iterator[Update]:
        """Take a picture there and back by each autoencoder at hand."""
        from evaluation.reconstruction import autoencoder_folders, compare
        from pipelines.pictures import open_picture
        from training.runs import runs_folder

        owner, card = owner_of(request, browser), self.context.model()
        if picture is None or card is None:
            raise refusal(text.LAB_NO_PICTURE if picture is None else text.NO_MODEL)
        try:
            image = open_picture(Path(picture))
        except StudioError as error:
            raise refusal(error) from None
        here = [model.path for model in self.context.models if not model.elsewhere]
        folders = autoencoder_folders(here, runs_folder())[:MAX_FOLDERS]
        if not folders:
            raise refusal(
                text.MODEL_ELSEWHERE.format(server=card.elsewhere) if card.elsewhere else text.NO_MODEL
            )
        counted = GenerationRequest.from_options({"prompt": "", "count": len(folders)}, card.defaults)
        for view in run(self.context, owner, counted, card.path, lambda engine: compare(image, folders)):
            if view.state is not JobState.DONE:
                yield gr.skip(), inside.progress(view), gr.skip(), gr.skip(), gr.skip()
                continue
            comparison: Comparison = view.outcome  # type: ignore[assignment]
            names = [(one.name, number) for number, one in enumerate(comparison.reconstructions)]
            yield (
                view.id,
                "",
                gr.update(choices=names, value=0, visible=len(names) > 1),
                gr.update(value=(comparison.image, comparison.reconstructions[0].image), visible=True),
                inside.comparison_table(comparison),
            )

    def choose_autoencoder(
        self, browser: str, compared: str, number: int, request: gr.Request
    ) -> tuple[Image.Image, Image.Image]:
        """The picture, and what another autoencoder leaves of it."""
        job = self.context.jobs.find(compared, owner_of(request, browser))
        if job is None or job.outcome is None:
            raise refusal(text.INSIDE_GONE)
        comparison: Comparison = job.outcome  # type: ignore[assignment]
        return comparison.image, comparison.reconstructions[number].image
