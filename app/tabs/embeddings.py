"""The picker of embeddings beside that of LoRAs: what is chosen is written into the prompt as a word."""

from html import escape
from typing import Any

import gradio as gr

from app import text
from app.context import Context
from models.errors import StudioError


class EmbeddingPicker:
    """One control, `name`, in a `row` that shows where there are any, and a line that says what it wrote."""

    def __init__(self, context: Context) -> None:
        self.embeddings = context.settings.prompt_files.embeddings

    def build(self) -> None:
        """The control, with the embeddings that there are."""
        choices = self._choices()
        with gr.Row(visible=len(choices) > 1, elem_id="embeddings") as self.row:
            self.name = gr.Dropdown(
                choices, value="", label=text.EMBEDDING, min_width=140, elem_id="embedding"
            )
        self.told = gr.HTML("", apply_default_css=False, elem_id="embedding-told")

    def connect(self, prompt: gr.Textbox, model: gr.Dropdown, quick: dict[str, Any]) -> None:
        """Let the control write into the prompt, and look for new ones when the model is changed."""
        self.name.input(self.choose, [prompt, self.name], [prompt, self.told], **quick)
        model.change(self.refresh, None, [self.row, self.name], **quick)

    def choose(self, prompt: str | None, name: str | None) -> tuple[Any, str]:
        """The prompt with the word of what was chosen, and how many tokens it takes."""
        if not name:
            return gr.skip(), ""
        before = (prompt or "").rstrip(" ,")
        try:
            said = text.EMBEDDING_WRITTEN.format(count=self.embeddings.find(name).vectors)
        except StudioError as error:
            return gr.skip(), f'<p class="ls-quiet">{escape(str(error))}</p>'
        return f"{before}, {name}" if before else name, f'<p class="ls-quiet">{escape(said)}</p>'

    def refresh(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """Updates with the embeddings that there are now."""
        choices = self._choices()
        return gr.update(visible=len(choices) > 1), gr.update(choices=choices, value="")

    def _choices(self) -> list[tuple[str, str]]:
        return [(text.LORA_NONE, ""), *((name, name) for name in self.embeddings.names())]
