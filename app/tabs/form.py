"""The controls of a picture, and the way from their values to a request and back."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gradio as gr

from app import text
from app.cards import CUSTOM, ModelCard, parse_size
from app.context import Context
from app.tabs.events import Updates
from app.tabs.finer import MAX_COUNT_ON_PAGE, RANDOM_SEED, finer, slider
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

NO_MODEL_DEFAULTS = GenerationDefaults(width=128, height=128)
REQUEST_FIELDS = {field.name for field in dataclasses.fields(GenerationRequest)}
DEFAULT_FIELDS = {field.name for field in dataclasses.fields(GenerationDefaults)}
# What of the form each of text.DETAILS, and the prompt, belongs to.
FIELDS_OF_SETTING: Mapping[str, tuple[str, ...]] = {
    "prompt": ("prompt",),
    "negative": ("negative_prompt",),
    "seed": ("seed",),
    "size": ("size", "width", "height"),
    "steps": ("steps",),
    "sampler": ("sampler", "schedule"),
    "guidance": ("guidance_scale",),
    "interval": ("guidance_start", "guidance_end"),
    "variation": ("variation_seed", "variation_strength"),
    "noise": ("noise",),
}


class Form:
    """The controls, built in three places of the page.

    `fields` holds them by name. One that is named as a field of the request is read from it, shown and, where
    the model's defaults know it too, reset by that name alone; `model` and `size` are the page's own.
    """

    def __init__(self, context: Context) -> None:
        self.context = context
        self.words = Words(context)
        self.card = context.model()
        self.fields: dict[str, gr.components.Component] = {}

    def build_words(self) -> None:
        """The prompt, which has the focus when the page opens."""
        self.prompt = self.fields["prompt"] = gr.Textbox(
            label=text.PROMPT,
            placeholder=text.PROMPT_HINT,
            lines=3,
            max_lines=8,
            autofocus=True,
            elem_id="prompt",
        )

    def build_settings(self) -> None:
        """Everything else, with the first model's defaults."""
        card, names = self.card, [(model.name, str(model.path)) for model in self.context.models]
        start = card.defaults if card is not None else NO_MODEL_DEFAULTS
        self.fields["negative_prompt"] = gr.Textbox(
            label=text.NEGATIVE, placeholder=text.NEGATIVE_HINT, lines=1, max_lines=4, elem_id="negative"
        )
        self.fields["styles"] = self.words.build_styles()
        self.model = self.fields["model"] = gr.Dropdown(
            names,
            value=str(card.path) if card else None,
            label=text.MODEL,
            visible=len(names) > 1,
            elem_id="model",
        )
        self.instant = self.fields["instant"] = gr.Checkbox(
            label=text.INSTANT,
            info=text.INSTANT_HINT,
            visible=start.instant is not None,
            elem_id="instant",
        )
        self.size = self.fields["size"] = gr.Radio(
            card.sizes if card else [], value=card.size if card else None, label=text.SIZE, elem_id="size"
        )
        self.swap = gr.Button(text.SWAP, size="sm", elem_id="swap")
        with gr.Row(visible=False, elem_id="custom-size") as self.custom_size:
            for name, label in (("width", text.WIDTH), ("height", text.HEIGHT)):
                self.fields[name] = gr.Number(
                    getattr(start, name),
                    label=label,
                    precision=0,
                    minimum=MIN_SIZE_PIXELS,
                    maximum=MAX_SIZE_PIXELS,
                    step=card.factor if card else SIZE_MULTIPLE_PIXELS,
                    min_width=100,
                    elem_id=name,
                )
        with gr.Row():
            self.fields["count"] = slider(text.COUNT, 1, MAX_COUNT_ON_PAGE, 1, name="count")
            self.steps = self.fields["steps"] = slider(text.STEPS, 1, MAX_STEPS, start.steps, name="steps")
        self.fields["guidance_scale"] = slider(
            text.GUIDANCE, 0, MAX_GUIDANCE_SCALE, start.guidance_scale, step=0.1, name="guidance",
            info=text.GUIDANCE_HINT,
        )  # fmt: skip
        with gr.Row():
            self.sampler = self.fields["sampler"] = gr.Dropdown(
                sampler_names(card is not None and card.distilled),
                value=start.sampler,
                label=text.SAMPLER,
                min_width=120,
                elem_id="sampler",
            )
            self.schedule = self.fields["schedule"] = gr.Dropdown(
                list(SAMPLERS[start.sampler].schedules),
                value=start.schedule,
                label=text.SCHEDULE,
                min_width=120,
                elem_id="schedule",
            )
        with gr.Row(elem_id="seed-row"):
            self.seed = self.fields["seed"] = gr.Number(
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
        with gr.Accordion(text.FINER, open=False, elem_id="finer"):
            self.fields |= finer()

    @property
    def outputs(self) -> list[gr.blocks.Block]:
        """What `show` and `choose_model` may write to."""
        return [*self.fields.values(), self.custom_size]

    def read(self, values: Mapping[str, Any]) -> tuple[GenerationRequest, ModelCard]:
        """The request that values by name ask for, and its model; RequestError says what is wrong."""
        card = self.context.model(values["model"])
        if card is None:
            raise RequestError(text.NO_MODEL)
        asked = {name: values[name] for name in self.fields if name in REQUEST_FIELDS}
        for name in ("prompt", "negative_prompt"):
            asked[name] = (asked[name] or "").strip()
        if card.words and not asked["prompt"]:
            raise RequestError(text.NO_PROMPT)
        asked["batch_size"] = asked["batch_size"] or None
        if not asked["variation_strength"]:  # else the request would keep a seed that draws nothing
            asked["variation_seed"] = None
        asked["width"], asked["height"] = parse_size(values["size"], values["width"], values["height"])
        for name in ("width", "height"):
            if asked[name] % card.factor:
                raise RequestError(
                    f"{name} must be a multiple of {card.factor} pixels for {card.name}, not {asked[name]}."
                )
        whole = {
            name: int(value)
            for name, value in asked.items()
            if isinstance(value, float) and value.is_integer()
        }
        return GenerationRequest.from_options(asked | whole, card.defaults), card

    def show(self, request: GenerationRequest, model: str | Path) -> Updates:
        """Updates that put a request into the controls as it was typed, its seed included."""
        request, styles = self.words.as_typed(request)
        card = self.context.model(model)
        size = f"{request.width}x{request.height}"
        sizes = card.sizes if card is not None else []
        preset = size if size in [known for _, known in sizes] else CUSTOM
        offered = sampler_names(card is not None and card.distilled)
        # The picture's own model may be gone, and the one in its place not draw with LCM.
        sampler = request.sampler if request.sampler in offered or card is None else card.defaults.sampler
        schedule = request.schedule if request.schedule in SAMPLERS[sampler].schedules else "Automatic"
        values = {name: getattr(request, name) for name in self.fields if name in REQUEST_FIELDS}
        values |= {
            "model": self.models(card),
            "size": gr.update(choices=sizes, value=preset),
            "sampler": self.samplers(card, sampler),
            "schedule": self.schedules(sampler, schedule),
            "seed": RANDOM_SEED if request.seed is None else request.seed,
            "variation_seed": RANDOM_SEED if request.variation_seed is None else request.variation_seed,
            "batch_size": request.batch_size or 0,
            "instant": self.instants(card, request.instant),
            "styles": styles,
        }
        return self._by_control(values) | {self.custom_size: gr.update(visible=preset == CUSTOM)}

    def show_one(self, setting: str, request: GenerationRequest, its_model: str, model: str) -> Updates:
        """Updates that put one setting of a picture, named as in text.DETAILS, or its prompt, into the form.

        All else stays as it is, the `model` that draws too, unless it is what was asked for.
        """
        if setting == "model":
            return self.choose_model(its_model)
        wanted: list[gr.blocks.Block] = [self.fields[name] for name in FIELDS_OF_SETTING.get(setting, ())]
        if setting == "size":
            wanted.append(self.custom_size)
        return {control: value for control, value in self.show(request, model).items() if control in wanted}

    def choose_model(self, model: str | Path, own: GenerationRequest | None = None) -> Updates:
        """Updates when another model is chosen: its defaults, but the words, the count and the seed stay.

        Where a person has defaults of their `own` for it, all settings are as these are, the count too.
        """
        card = self.context.model(model)
        if card is None:
            return {self.custom_size: gr.skip()}
        if own is not None:
            shown = self.show(own, model)
            for name in ("prompt", "seed"):
                del shown[self.fields[name]]
            return shown
        start = card.defaults
        values = {name: getattr(start, name) for name in self.fields if name in DEFAULT_FIELDS}
        values |= {
            "model": self.models(card),
            "size": gr.update(choices=card.sizes, value=card.size),
            "sampler": self.samplers(card, start.sampler),
            "schedule": self.schedules(start.sampler, start.schedule),
            "instant": self.instants(card, False),
        }
        return self._by_control(values) | {self.custom_size: gr.update(visible=False)}

    def choose_instant(self, model: str, instant: bool) -> Updates:
        """Updates of steps, guidance, sampler and schedule when the student is switched on or off."""
        card = self.context.model(model)
        start = None if card is None else card.defaults.instant if instant else card.defaults
        if start is None:
            return {self.steps: gr.skip()}
        return self._by_control(
            {
                "steps": start.steps,
                "guidance_scale": start.guidance_scale,
                "sampler": self.samplers(card, start.sampler),
                "schedule": self.schedules(start.sampler, start.schedule),
            }
        )

    def models(self, card: ModelCard | None) -> dict[str, Any]:
        """An update with the models that there are by now, this one chosen."""
        names = [(model.name, str(model.path)) for model in self.context.models]
        chosen = str(card.path) if card is not None else None
        return gr.update(choices=names, value=chosen, visible=len(names) > 1)

    def offer_again(self, model: str | None) -> dict[str, Any]:
        """An update with the models that there are by now, which keeps the chosen one where it is there."""
        self.context.models.look()
        return self.models(self.context.model(model))

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

    def _by_control(self, values: Mapping[str, Any]) -> Updates:
        return {self.fields[name]: value for name, value in values.items()}
