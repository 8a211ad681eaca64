"""The picture that was chosen on the tab Generate: what made it, and what can be done with it."""

from typing import Any

import gradio as gr
from PIL import Image

from app import stage, text
from app.context import Context
from app.picture import Picture
from app.tabs.downloads import FETCH, download_link
from app.tabs.events import CLICK_ON_ID, QUICK, Update, Updates, owner_of, refusal
from app.tabs.form import Form
from app.tabs.image import ImageForm
from models.errors import StudioError
from pipelines.filename import DEFAULT_PATTERN


class Chosen:
    """Builds itself below the stage; `selected` is the picture's id, `column` what is hidden without one."""

    def __init__(self, context: Context, form: Form, image: ImageForm, browser: gr.BrowserState) -> None:
        self.context, self.form, self.image, self.browser = context, form, image, browser
        self.selected = gr.State("")

    def build(self) -> None:
        """Its settings and its buttons, and the slider between it and what it was drawn from."""
        with gr.Column(elem_id="chosen", visible=False) as self.column:
            self.details = gr.HTML("", apply_default_css=False, js_on_load=CLICK_ON_ID, elem_id="details")
            self.link = gr.HTML("", apply_default_css=False, elem_id="chosen-link")
            with gr.Row(elem_id="chosen-actions"):
                gr.Button(text.ENLARGE, size="sm", elem_id="enlarge")  # static/viewer.js answers
                self.reuse = gr.Button(text.REUSE, size="sm", elem_id="reuse")
                self.reuse_seed = gr.Button(text.REUSE_SEED, size="sm", elem_id="reuse-seed")
                self.start_from = gr.Button(text.START_FROM, size="sm", elem_id="start-from")
                self.favourite = gr.Button(text.FAVOURITE_ADD, size="sm", elem_id="chosen-favourite")
                self.look = gr.Button(text.INSIDE, size="sm", elem_id="look")
        self.compared = gr.ImageSlider(
            label=text.BEFORE_AFTER,
            type="pil",
            format="png",
            interactive=False,
            visible=False,
            buttons=[],
            elem_id="before-after",
        )

    @property
    def outputs(self) -> list[gr.blocks.Block]:
        """What `showing` writes to."""
        return [self.column, self.details, self.selected, self.favourite]

    def showing(self, picture: Picture | None) -> Updates:
        """The updates that show this picture, or none."""
        return {
            self.column: gr.update(visible=picture is not None),
            self.details: stage.details(picture),
            self.selected: picture.id if picture is not None else "",
            self.favourite: favourite_label(picture),
        }

    def connect(self) -> None:
        """Its events, once the form is built."""
        which = [self.browser, self.selected]
        used = self.details.select(
            self.use_detail, [*which, self.form.model], [*self.form.outputs, self.link], **QUICK
        )
        used.success(None, [self.link], None, js=FETCH)
        self.favourite.click(self.turn_favourite, which, [self.favourite], **QUICK)
        everything = [*self.form.outputs, *self.image.fields.values()]
        self.reuse.click(self.reuse_settings, which, everything, **QUICK)
        self.reuse_seed.click(self.its_seed, which, [self.form.seed], **QUICK)
        self.start_from.click(
            self.start_from_picture, which, [self.image.editor, self.image.accordion], **QUICK
        )
        self.selected.change(self.compare, which, [self.compared], **QUICK)

    def reuse_settings(self, browser: str, selected: str, request: gr.Request) -> Updates:
        """Put the settings of the picture, its seed included, into the controls."""
        picture = self.picture(browser, selected, request)
        return self.form.show(picture.request, picture.model) | self.image.show(picture.request)

    def use_detail(
        self, browser: str, selected: str, model: str, request: gr.Request, event: gr.EventData
    ) -> Updates:
        """A click on one of its settings puts that one into the form; on a format, it is downloaded so."""
        picture = self.picture(browser, selected, request)
        name, _, format = str(event.id).partition(":")
        if name != "as":
            return {self.link: "", **self.form.show_one(name, picture.request, picture.model, model)}
        return {self.link: download_link([picture], format, DEFAULT_PATTERN)}

    def turn_favourite(self, browser: str, selected: str, request: gr.Request) -> str:
        """Make it a favourite, or no longer; what the button does next."""
        picture = self.picture(browser, selected, request)
        try:
            self.context.library.set_favourite(picture, not picture.favourite)
        except StudioError as error:
            raise refusal(error) from None
        return favourite_label(self.picture(browser, selected, request))

    def its_seed(self, browser: str, selected: str, request: gr.Request) -> int | None:
        """The seed of the picture."""
        return self.picture(browser, selected, request).request.seed

    def start_from_picture(self, browser: str, selected: str, request: gr.Request) -> Update:
        """Put the picture into the editor, and open it."""
        with Image.open(self.picture(browser, selected, request).path) as file:
            picture = file.convert("RGBA")
        return {"background": picture, "layers": [], "composite": None}, gr.update(open=True)

    def compare(self, browser: str, selected: str, request: gr.Request) -> dict[str, Any]:
        """The picture beside the one it was drawn from."""
        return self.image.before_and_after(self.context.library.find(selected, owner_of(request, browser)))

    def picture(self, browser: str, selected: str, request: gr.Request) -> Picture:
        """The picture itself; gr.Error where this owner has none of that id."""
        picture = self.context.library.find(selected, owner_of(request, browser))
        if picture is None:
            raise refusal(text.GONE)
        return picture


def favourite_label(picture: Picture | None) -> str:
    """What the button does with a picture that is one, or is not."""
    return text.FAVOURITE_REMOVE if picture is not None and picture.favourite else text.FAVOURITE_ADD
