"""The picker of LoRAs below the prompt: what is chosen stands in the prompt as a tag."""

from html import escape
from typing import Any

import gradio as gr

from app import text
from app.context import Context
from models.errors import StudioError
from models.folder import model_id
from models.lora import LoraFile
from pipelines.prompt.lora import TAUGHT_WEIGHT, put_lora

MOST_WEIGHT = 2.0


class LoraPicker:
    """Two controls, a name and its weight, and a line that says what to ask the chosen one for."""

    def __init__(self, context: Context) -> None:
        self.context = context
        self.loras = context.settings.prompt_files.loras

    def build(self, model: str) -> None:
        """The controls, with the LoRAs of the first model."""
        with gr.Row(visible=bool(self._fitting(model)), elem_id="loras") as self.row:
            self.name = gr.Dropdown(
                self._choices(model), value="", label=text.LORA, min_width=140, elem_id="lora"
            )
            self.weight = gr.Slider(
                -MOST_WEIGHT, MOST_WEIGHT, value=TAUGHT_WEIGHT, step=0.05, label=text.LORA_WEIGHT,
                min_width=140, buttons=[], elem_id="lora-weight",
            )  # fmt: skip
        self.told = gr.HTML("", apply_default_css=False, elem_id="lora-told")

    def connect(self, prompt: gr.Textbox, model: gr.Dropdown, quick: dict[str, Any]) -> None:
        """Let the controls write into the prompt, and follow the model."""
        self.name.input(
            self.choose, [prompt, self.name, self.weight], [prompt, self.told], **quick
        )  # fmt: skip
        self.weight.release(self.weigh, [prompt, self.name, self.weight], [prompt], **quick)
        model.change(self.refresh, [model], [self.row, self.name], **quick)

    def choose(self, prompt: str | None, name: str | None, weight: float) -> tuple[Any, str]:
        """The prompt with the tag of what was chosen, and what to ask it for."""
        if not name:
            return gr.skip(), ""
        try:
            lora = self.loras.find(name)
        except StudioError as error:
            return gr.skip(), f'<p class="ls-quiet">{escape(str(error))}</p>'
        captions = text.LORA_CAPTIONS.format(captions=", ".join(lora.captions))
        said = [captions if lora.captions else text.LORA_NO_CAPTIONS]
        if lora.family:
            said.append(text.LORA_FAMILY.format(family=lora.family))
        if lora.rank is not None:
            said.append(text.LORA_RANK.format(rank=lora.rank))
        told = "".join(f'<p class="ls-quiet">{escape(sentence)}</p>' for sentence in said)
        return put_lora(prompt or "", name, weight), told

    def weigh(self, prompt: str | None, name: str | None, weight: float) -> Any:
        """The prompt with another weight."""
        return put_lora(prompt or "", name, weight) if name else gr.skip()

    def refresh(self, model: str | None) -> tuple[dict[str, Any], dict[str, Any]]:
        """Updates with the LoRAs that there are now for a model."""
        choices = self._choices(model)
        return gr.update(visible=len(choices) > 1), gr.update(choices=choices, value="")

    def _choices(self, model: str | None) -> list[tuple[str, str]]:
        return [(text.LORA_NONE, ""), *((lora.name, lora.name) for lora in self._fitting(model))]

    def _fitting(self, model: str | None) -> list[LoraFile]:
        """Those that say nothing else than that they belong to the model."""
        card, found = self.context.model(model), []
        if card is None or not card.words:
            return []
        for name in self.loras.names():
            try:
                lora = self.loras.find(name)
                if not lora.base or lora.base == model_id(card.path):
                    found.append(lora)
            except StudioError:  # a file that cannot be read is told of when it is asked for
                continue
        return found
