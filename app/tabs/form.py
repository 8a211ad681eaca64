"""The controls of a picture, and the way from their values to a request and back."""

from pathlib import Path
from typing import Any

import gradio as gr

from app import text
from app.cards import CUSTOM, ModelCard, parse_size
from app.context import Context
from app.tabs.words import Words
from models.defaults import GenerationDefaults
from models.errors import RequestError
from pipelines.request import (
    MAX_GUIDANCE_SCALE,
    MAX_SEED,
    MAX_SIZE_PIXELS,
    MAX_STEPS,
    MIN_SIZE_PIXELS,
    SIZE_MULTIPLE_PIXELS,
    GenerationRequest,
)
from pipelines.samplers import SAMPLERS, sampler_names

MAX_COUNT_ON_PAGE = 16
NO_MODEL_DEFAULTS = GenerationDefaults(width=128, height=128)
RANDOM_SEED = -1  # as people write it; an empty number field would be sent as 0


class Form:
    """The controls, built in three places of the page; `fields` are they in the order of their values."""

    def __init__(self, context: Context) -> None:
        self.context = context
        self.words = Words(context)
        self.card = context.model()

    def build_words(self) -> None:
        """The prompt, which has the focus when the page opens."""
        self.prompt = gr.Textbox(
            label=text.PROMPT,
            placeholder=text.PROMPT_HINT,
            lines=3,
            max_lines=8,
            autofocus=True,
            elem_id="prompt",
        )

    def build_negative(self) -> None:
        """The negative prompt."""
        self.negative = gr.Textbox(
            label=text.NEGATIVE, placeholder=text.NEGATIVE_HINT, lines=1, max_lines=4, elem_id="negative"
        )

    def build_settings(self) -> None:
        """Everything else, with the first model's defaults."""
        card, names = self.card, [(model.name, str(model.path)) for model in self.context.models]
        start = card.defaults if card is not None else NO_MODEL_DEFAULTS
        sizes = card.sizes if card is not None else []
        self.model = gr.Dropdown(
            names,
            value=str(card.path) if card else None,
            label=text.MODEL,
            visible=len(names) > 1,
            elem_id="model",
        )
        self.instant = gr.Checkbox(
            label=text.INSTANT,
            info=text.INSTANT_HINT,
            visible=start.instant is not None,
            elem_id="instant",
        )
        self.size = gr.Radio(sizes, value=card.size if card else None, label=text.SIZE, elem_id="size")
        self.swap = gr.Button(text.SWAP, size="sm", elem_id="swap")
        with gr.Row(visible=False, elem_id="custom-size") as self.custom_size:
            numbers = [
                gr.Number(
                    getattr(start, name),
                    label=label,
                    precision=0,
                    minimum=MIN_SIZE_PIXELS,
                    maximum=MAX_SIZE_PIXELS,
                    step=card.factor if card else SIZE_MULTIPLE_PIXELS,
                    min_width=100,
                    elem_id=name,
                )
                for name, label in (("width", text.WIDTH), ("height", text.HEIGHT))
            ]
        self.width, self.height = numbers
        with gr.Row():
            self.count = gr.Slider(
                1,
                MAX_COUNT_ON_PAGE,
                value=1,
                step=1,
                label=text.COUNT,
                min_width=140,
                buttons=[],
                elem_id="count",
            )
            self.steps = gr.Slider(
                1,
                MAX_STEPS,
                value=start.steps,
                step=1,
                label=text.STEPS,
                min_width=140,
                buttons=[],
                elem_id="steps",
            )
        self.guidance = gr.Slider(
            0,
            MAX_GUIDANCE_SCALE,
            value=start.guidance_scale,
            step=0.1,
            label=text.GUIDANCE,
            info=text.GUIDANCE_HINT,
            buttons=[],
            elem_id="guidance",
        )
        with gr.Row():
            self.sampler = gr.Dropdown(
                sampler_names(card is not None and card.distilled),
                value=start.sampler,
                label=text.SAMPLER,
                min_width=120,
                elem_id="sampler",
            )
            self.schedule = gr.Dropdown(
                list(SAMPLERS[start.sampler].schedules),
                value=start.schedule,
                label=text.SCHEDULE,
                min_width=120,
                elem_id="schedule",
            )
        with gr.Row(elem_id="seed-row"):
            self.seed = gr.Number(
                RANDOM_SEED,
                label=text.SEED,
                precision=0,
                minimum=-1,
                maximum=MAX_SEED,
                min_width=100,
                elem_id="seed",
            )
            self.dice = gr.Button(text.DICE, size="sm", elem_id="dice", min_width=40)
            self.keep_seed = gr.Button(text.KEEP_SEED, size="sm", elem_id="keep-seed", min_width=40)

    @property
    def fields(self) -> list[gr.components.Component]:
        """The controls whose values `read` takes, in its order."""
        return [
            self.model,
            self.prompt,
            self.negative,
            self.size,
            self.width,
            self.height,
            self.count,
            self.steps,
            self.guidance,
            self.sampler,
            self.schedule,
            self.seed,
            self.instant,
            self.words.styles,
        ]

    @property
    def outputs(self) -> list[Any]:
        """What `show` and `defaults_of` answer for: the fields, and the row of the custom size."""
        return [*self.fields, self.custom_size]

    def read(
        self,
        model: str,
        prompt: str,
        negative: str,
        size: str,
        width: float | None,
        height: float | None,
        count: int,
        steps: int,
        guidance: float,
        sampler: str,
        schedule: str,
        seed: float | None,
        instant: bool,
        styles: list[str] | None = None,
    ) -> tuple[GenerationRequest, ModelCard]:
        """The request that the controls ask for, and its model; RequestError says what is wrong."""
        card = self.context.model(model)
        if card is None:
            raise RequestError(text.NO_MODEL)
        if card.words and not (prompt or "").strip():
            raise RequestError(text.NO_PROMPT)
        wide, high = parse_size(size, width, height)
        for name, pixels in (("width", wide), ("height", high)):
            if pixels % card.factor:
                raise RequestError(
                    f"{name} must be a multiple of {card.factor} pixels for {card.name}, not {pixels}."
                )
        options = {
            "prompt": (prompt or "").strip(),
            "negative_prompt": (negative or "").strip(),
            "width": wide,
            "height": high,
            "count": count,
            "steps": steps,
            "guidance_scale": guidance,
            "sampler": sampler,
            "schedule": schedule,
            "seed": seed,
            "instant": instant,
            "styles": styles,
        }
        whole = {
            name: int(value)
            for name, value in options.items()
            if isinstance(value, float) and value.is_integer()
        }
        return GenerationRequest.from_options(options | whole, card.defaults), card

    def show(self, request: GenerationRequest, model: str | Path) -> list[Any]:
        """Updates that put a request into the controls as it was typed, its seed included."""
        request, styles = self.words.as_typed(request)
        card = self.context.model(model)
        value = f"{request.width}x{request.height}"
        sizes = card.sizes if card is not None else []
        preset = value if value in [known for _, known in sizes] else CUSTOM
        offered = sampler_names(card is not None and card.distilled)
        # The picture's own model may be gone, and the one in its place not draw with LCM.
        sampler = request.sampler if request.sampler in offered or card is None else card.defaults.sampler
        schedule = request.schedule if request.schedule in SAMPLERS[sampler].schedules else "Automatic"
        return [
            str(card.path) if card is not None else gr.skip(),
            request.prompt,
            request.negative_prompt,
            gr.update(choices=sizes, value=preset),
            request.width,
            request.height,
            request.count,
            request.steps,
            request.guidance_scale,
            self.samplers(card, sampler),
            self.schedules(sampler, schedule),
            RANDOM_SEED if request.seed is None else request.seed,
            self.instants(card, request.instant),
            styles,
            gr.update(visible=preset == CUSTOM),
        ]

    def choose_model(self, model: str) -> list[Any]:
        """Updates when another model is chosen: its defaults, but the words, the count and the seed stay."""
        card = self.context.model(model)
        if card is None:
            return [gr.skip()] * len(self.outputs)
        start, stay = card.defaults, gr.skip()
        return [
            stay,
            stay,
            stay,
            gr.update(choices=card.sizes, value=card.size),
            start.width,
            start.height,
            stay,
            start.steps,
            start.guidance_scale,
            self.samplers(card, start.sampler),
            self.schedules(start.sampler, start.schedule),
            stay,
            self.instants(card, False),
            stay,
            gr.update(visible=False),
        ]

    def choose_instant(self, model: str, instant: bool) -> list[Any]:
        """Updates of steps, guidance, sampler and schedule when the student is switched on or off."""
        card = self.context.model(model)
        start = None if card is None else card.defaults.instant if instant else card.defaults
        if start is None:
            return [gr.skip()] * 4
        return [
            start.steps,
            start.guidance_scale,
            self.samplers(card, start.sampler),
            self.schedules(start.sampler, start.schedule),
        ]

    def instants(self, card: ModelCard | None, instant: bool) -> dict[str, Any]:
        """An update of the switch, which is shown where the model has a student."""
        has = card is not None and card.defaults.instant is not None
        return gr.update(value=instant and has, visible=has)

    def samplers(self, card: ModelCard | None, sampler: str) -> dict[str, Any]:
        """An update with the samplers that a model draws with."""
        names = sampler_names(card is not None and card.distilled)
        return gr.update(choices=[(name, name) for name in names], value=sampler)

    def schedules(self, sampler: str, schedule: str = "Automatic") -> dict[str, Any]:
        """An update with the schedules that a sampler takes."""
        return gr.update(choices=[(name, name) for name in SAMPLERS[sampler].schedules], value=schedule)

    def sizes(self, size: str, width: float | None, height: float | None) -> tuple[Any, Any, Any]:
        """Show the two numbers for the custom size, starting from the preset that was chosen before."""
        if size == CUSTOM:
            return gr.update(visible=True), width, height
        wide, high = parse_size(size, width, height)
        return gr.update(visible=False), wide, high

    def swapped(self, size: str, width: float | None, height: float | None) -> tuple[Any, Any, Any, Any]:
        """Width and height in each other's place: the custom size, where no preset has them so."""
        wide, high = parse_size(size, width, height)
        return CUSTOM, gr.update(visible=True), high, wide
