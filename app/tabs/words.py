"""What helps with the prompt: the count of its tokens below it, and the named styles."""

import dataclasses
import logging
from typing import Any

import gradio as gr

from app import text
from app.context import Context
from app.counter import token_line
from models.errors import RequestError
from pipelines.request import GenerationRequest

logger = logging.getLogger(__name__)


class Words:
    """Two controls, `tokens` and `styles`, and what they show."""

    def __init__(self, context: Context) -> None:
        self.context = context
        self.files = context.settings.prompt_files

    def build_tokens(self) -> None:
        """The count, which comes right below the prompt."""
        self.tokens = gr.HTML("", apply_default_css=False, elem_id="tokens")

    def build_styles(self) -> gr.Dropdown:
        """The named styles, where there are any."""
        names = self.style_names()
        self.styles = gr.Dropdown(
            names, value=[], multiselect=True, label=text.STYLES, visible=bool(names), elem_id="styles"
        )
        return self.styles

    def style_names(self) -> list[str]:
        """The styles that there are now; none where their file cannot be read."""
        try:
            return list(self.files.styles())
        except RequestError as error:
            logger.warning("%s", error)
            return []

    def style_choices(self) -> dict[str, Any]:
        """An update with the styles that there are now."""
        names = self.style_names()
        return gr.update(choices=[(name, name) for name in names], visible=bool(names))

    def as_typed(self, request: GenerationRequest) -> tuple[GenerationRequest, dict[str, Any]]:
        """The request as it was typed, and the update of its styles.

        Where one of these is gone, its words stay in the prompt.
        """
        names = self.style_names()
        if set(request.styles) <= set(names):
            request = request.as_typed()
        else:
            request = dataclasses.replace(request, styles=(), template=None, negative_template=None)
        choices = [(name, name) for name in names]
        return request, gr.update(choices=choices, value=list(request.styles), visible=bool(names))

    def count_tokens(
        self, model: str, prompt: str | None, styles: list[str] | None, seed: float | None, steps: int
    ) -> str:
        """The line that tells the tokens of the prompt, with the words that this seed draws."""
        card = self.context.model(model)
        if card is None or not card.words:
            return ""
        number = int(seed) if seed is not None and seed >= 0 else 0
        return token_line(card.path, prompt or "", styles or [], number, int(steps), self.files)
