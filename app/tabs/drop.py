"""The place where a picture is dropped to have its settings read."""

from pathlib import Path
from typing import Any

import gradio as gr
from gradio.utils import get_upload_folder

from app import gallery, text
from app.context import Context
from app.tabs.events import POLITE, QUICK, Update, Updates, focus_on, refusal
from app.tabs.form import NO_MODEL_DEFAULTS, Form
from models.errors import RequestError
from pipelines.metadata.settings import read_settings
from pipelines.request import GenerationRequest

FILE_TYPES = [".png", ".jpg", ".jpeg", ".webp", ".avif"]
FOCUS_PROMPT = focus_on("#prompt textarea")


class DropBox:
    """Builds itself into the Blocks that are open; what it reads goes into the form of the tab Generate."""

    def __init__(self, context: Context, form: Form, tabs: gr.Tabs) -> None:
        self.context, self.form, self.tabs = context, form, tabs
        with gr.Column(elem_id="drop-here"):
            self.drop = gr.File(label=text.DROP, file_types=FILE_TYPES, height=150, elem_id="drop")
            gr.HTML(f'<p class="ls-quiet">{text.DROP_HINT}</p>', apply_default_css=False)
            self.shown = gr.HTML("", js_on_load=POLITE, apply_default_css=False, elem_id="read")
            self.use = gr.Button(
                text.DROP_USE, variant="primary", size="sm", visible=False, elem_id="use-read"
            )
        self.read = gr.State(None)
        self.drop.upload(self.look_into, [self.drop], [self.drop, self.shown, self.use, self.read], **QUICK)
        used = self.use.click(self.put_into_form, [self.read, form.model], [*form.outputs, tabs], **QUICK)
        used.success(None, None, None, js=FOCUS_PROMPT)

    def look_into(self, file: str | None) -> Update:
        """Read the settings of a dropped file, which is not kept."""
        settings = read_settings(file) if file else None
        if file and Path(file).is_relative_to(get_upload_folder()):
            Path(file).unlink(missing_ok=True)
        known = None if settings is None else (dict(settings.options), settings.model_name)
        return None, gallery.read_file(settings), gr.update(visible=known is not None), known

    def put_into_form(self, read: tuple[dict[str, Any], str | None] | None, model: str) -> Updates:
        """Put what was read into the form; the rest is as the model has it."""
        if read is None:
            raise refusal(text.DROP_NOTHING)
        options, named = {"prompt": "", **read[0]}, read[1]
        known = {card.name for card in self.context.models}
        card = self.context.model(named if named in known else model)
        try:
            asked = GenerationRequest.from_options(options, card.defaults if card else NO_MODEL_DEFAULTS)
        except RequestError as error:
            raise refusal(error) from None
        return self.form.show(asked, card.path if card else model) | {self.tabs: gr.Tabs(selected="generate")}
