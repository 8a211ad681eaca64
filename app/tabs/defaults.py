"""Two buttons: a model begins with my settings, or again with those that it was made for."""

from dataclasses import replace
from typing import Any

import gradio as gr

from app import text
from app.context import Context
from app.own_defaults import OwnDefaults
from app.tabs.events import QUICK, Updates, owner_of, refusal
from app.tabs.form import Form
from models.errors import StudioError
from pipelines.request import GenerationRequest


class Defaults:
    """Builds the buttons below the settings, and has every choice of a model begin with them."""

    def __init__(self, context: Context, form: Form, browser: gr.BrowserState) -> None:
        self.context, self.form, self.browser = context, form, browser
        self.kept = OwnDefaults(context.database)

    def build(self) -> None:
        """The buttons."""
        with gr.Row(elem_id="own-defaults"):
            self.save = gr.Button(text.SAVE_DEFAULTS, size="sm", elem_id="save-defaults")
            self.forget = gr.Button(text.FORGET_DEFAULTS, size="sm", elem_id="forget-defaults")

    def connect(self) -> None:
        """The events of the buttons and of the list of models."""
        form, asked = self.form, [self.browser, self.form.model]
        self.save.click(self.keep, [self.browser, *form.fields.values()], None, **QUICK)
        self.forget.click(self.go_back, asked, form.outputs, **QUICK)
        form.model.input(self.choose, asked, form.outputs, **QUICK)

    def choose(self, browser: str, model: str, request: gr.Request) -> Updates:
        """Another model: as this person, or else the model itself, begins."""
        return self.form.choose_model(model, self.find(owner_of(request, browser), model))

    def find(self, owner: str, model: str) -> GenerationRequest | None:
        """What this owner begins with on a model, if it is other than the model's own."""
        card = self.context.model(model)
        return None if card is None else self.kept.find(owner, card.path)

    def keep(self, browser: str, request: gr.Request, *values: Any) -> None:
        """Begin with what stands in the form from now on, but for its words and its seed."""
        named = dict(zip(self.form.fields, values, strict=True)) | {"seed": None}
        try:
            asked, card = self.form.read(named | {"prompt": named["prompt"] or text.PROMPT})
            self.kept.save(owner_of(request, browser), card.path, replace(asked, prompt=""))
        except StudioError as error:
            raise refusal(error) from None
        gr.Info(text.SAVED_DEFAULTS.format(model=card.name))

    def go_back(self, browser: str, model: str, request: gr.Request) -> Updates:
        """Begin as the model was made, now and from now on."""
        card = self.context.model(model)
        if card is None:
            raise refusal(text.NO_MODEL)
        self.kept.forget(owner_of(request, browser), card.path)
        gr.Info(text.FORGOTTEN_DEFAULTS.format(model=card.name))
        return self.form.choose_model(model)
