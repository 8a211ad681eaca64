"""The picture that was chosen on the tab Generate: what made it, and what can be done with it."""

from typing import Any

import gradio as gr
from PIL import Image

from app import text
from app.context import Context
from app.library import Picture
from app.tabs.events import QUICK, Update, Updates, owner_of, refusal
from app.tabs.form import Form
from app.tabs.image import ImageForm


class Chosen:
    """Builds itself below the stage; `selected` is the picture's id, `column` what is hidden without one."""

    def __init__(self, context: Context, form: Form, image: ImageForm, browser: gr.BrowserState) -> None:
        self.context, self.form, self.image, self.browser = context, form, image, browser
        self.selected = gr.State("")

    def build(self) -> None:
        """Its settings and its buttons, and the slider between it and what it was drawn from."""
        with gr.Column(elem_id="chosen", visible=False) as self.column:
            self.details = gr.HTML("", apply_default_css=False, elem_id="details")
            with gr.Row(elem_id="chosen-actions"):
                gr.Button(text.ENLARGE, size="sm", elem_id="enlarge")  # static/viewer.js answers
                self.reuse = gr.Button(text.REUSE, size="sm", elem_id="reuse")
                self.reuse_seed = gr.Button(text.REUSE_SEED, size="sm", elem_id="reuse-seed")
                self.start_from = gr.Button(text.START_FROM, size="sm", elem_id="start-from")
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

    def connect(self) -> None:
        """Its events, once the form is built."""
        which = [self.browser, self.selected]
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
