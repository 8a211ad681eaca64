"""The controls of a training, and the way from their values to the words of its command line."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import gradio as gr

from app import text
from app.context import Context
from app.dataset import folder_named
from app.trainings import check_name, trainings
from models.defaults import read_defaults
from models.errors import RequestError, StudioError
from training.config import (
    PRESETS,
    AutoencoderConfig,
    DiffusionConfig,
    DistillConfig,
    load_config,
)

KINDS: dict[str, Any] = {
    "diffusion": DiffusionConfig,
    "autoencoder": AutoencoderConfig,
    "distill": DistillConfig,
}
STEPS, PICTURES, MINUTES = "steps", "pictures", "minutes"
DEFAULT_MINUTES = 30
MAX_STEPS = 100_000_000
FINE_TUNING_RATE = 1e-4  # a trained denoiser forgets at a preset's rate, which is for a new one
SAMPLES, LOG_LINES, WARM_UP_SHARE = 8, 200, 0.1  # of a training that is shorter than its preset's


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """A training that somebody asks for; `minutes` is set where its steps are not known yet."""

    stage: str
    preset: str
    name: str
    settings: tuple[str, ...]
    minutes: float | None
    steps: int
    more: tuple[str, ...]  # what a person wrote out, which has the last word

    @property
    def arguments(self) -> list[str]:
        """The words after `launch.py train`; ConfigError where one of its settings cannot be."""
        preset = load_config(KINDS[self.stage], self.preset, []).training
        warm_up = load_config(KINDS[self.stage], self.preset, []).optimizer.warmup_steps
        shorter = {
            "training.steps": self.steps,
            "training.sample_every_steps": min(preset.sample_every_steps, -(-self.steps // SAMPLES)),
            "training.log_every_steps": min(preset.log_every_steps, -(-self.steps // LOG_LINES)),
            "optimizer.warmup_steps": min(warm_up, round(WARM_UP_SHARE * self.steps)),
        }
        settings = [*self.settings, *(f"{key}={value}" for key, value in shorter.items()), *self.more]
        load_config(KINDS[self.stage], self.preset, settings)
        # In one word, so that a setting is never read as another option.
        return [self.stage, "--config", self.preset, *(f"--set={setting}" for setting in settings)]

    @property
    def lacks_autoencoder(self) -> bool:
        """Whether a new denoiser is asked for, and nobody says in whose latents."""
        return self.stage == "diffusion" and lacks_autoencoder(self.preset, [*self.settings, *self.more])

    def measured(self, step_seconds: float) -> "Order":
        """The same with as many steps as its minutes hold."""
        assert self.minutes is not None
        steps = max(1, min(MAX_STEPS, round(60 * self.minutes / step_seconds)))
        return replace(self, steps=steps, minutes=None)


class TrainForm:
    """The controls, built into the Blocks that are open; `fields` are they in the order that `read` takes."""

    def __init__(self, context: Context) -> None:
        self.context = context
        # What runs there are is not for everyone who opens the page: those come when the tab is opened.
        here = [(card.name, str(card.path)) for card in context.models if not card.elsewhere]
        begins = [*here, (text.TRAIN_FROM_NOTHING, "")]
        first = begins[0][1]
        with gr.Row(elem_id="train-folder-row"):
            self.folder = gr.Textbox(
                label=text.TRAIN_FOLDER, placeholder=text.TRAIN_FOLDER_HINT, max_lines=1, scale=4,
                elem_id="train-folder",
            )  # fmt: skip
            self.look = gr.Button(text.TRAIN_LOOK, scale=0, min_width=90, elem_id="train-look")
        with gr.Row():
            self.budget = gr.Number(
                DEFAULT_MINUTES, label=text.TRAIN_BUDGET, minimum=0, min_width=90, elem_id="train-budget"
            )
            self.unit = gr.Dropdown(
                [(words, unit) for unit, words in text.TRAIN_UNITS.items()],
                value=MINUTES, label=text.TRAIN_UNIT, min_width=120, elem_id="train-unit",
            )  # fmt: skip
        self.start = gr.Button(text.TRAIN_START, variant="primary", elem_id="train-start")
        with gr.Accordion(text.TRAIN_HOW, open=False, elem_id="train-how"):
            self.stage = gr.Radio(
                [(words, stage) for stage, words in text.TRAIN_STAGES.items()],
                value="diffusion", label=text.TRAIN_STAGE, elem_id="train-stage",
            )  # fmt: skip
            self.begin = gr.Dropdown(begins, value=first, label=text.TRAIN_BEGIN, elem_id="train-begin")
            with gr.Row():
                self.preset = gr.Dropdown(
                    presets("diffusion"), value="starter-diffusion", label=text.TRAIN_PRESET, min_width=140,
                    elem_id="train-preset",
                )  # fmt: skip
                self.side = gr.Number(
                    side_of(first, "diffusion", "starter-diffusion"), label=text.TRAIN_SIDE, precision=0,
                    minimum=16, maximum=2048, min_width=100, elem_id="train-side",
                )  # fmt: skip
            self.autoencoder = gr.Dropdown(
                [(text.TRAIN_AS_PRESET, "")], value="", label=text.TRAIN_AUTOENCODER, visible=not first,
                elem_id="train-autoencoder",
            )  # fmt: skip
            self.name = gr.Textbox(
                label=text.TRAIN_NAME, placeholder=text.TRAIN_NAME_HINT, max_lines=1, elem_id="train-name"
            )
            self.more = gr.Textbox(
                label=text.TRAIN_MORE, placeholder=text.TRAIN_MORE_HINT, lines=2, elem_id="train-more"
            )
            self.estimate = gr.Button(text.TRAIN_ESTIMATE, size="sm", elem_id="train-estimate")

    @property
    def fields(self) -> list[gr.components.Component]:
        """The controls whose values `read` takes, in its order."""
        return [
            self.folder, self.stage, self.begin, self.preset, self.side, self.autoencoder, self.budget,
            self.unit, self.name, self.more,
        ]  # fmt: skip

    def read(
        self,
        folder: str,
        stage: str,
        begin: str | None,
        preset: str,
        side: float | None,
        autoencoder: str | None,
        budget: float | None,
        unit: str,
        name: str,
        more: str,
    ) -> Order:
        """The training that the controls ask for; RequestError or ConfigError says what is wrong."""
        pictures = folder_named(folder or "")
        if stage not in KINDS or preset not in presets(stage):
            raise RequestError(text.TRAIN_NO_PRESET)
        for given, offered in ((begin, self.begins(stage)), (autoencoder, self.autoencoders())):
            if given and given not in [path for _, path in offered]:
                raise RequestError(text.TRAIN_MODEL_GONE.format(model=given))
        if stage == "distill" and not begin:
            raise RequestError(text.TRAIN_NO_TEACHER)
        if budget is None or not math.isfinite(budget) or budget <= 0:
            raise RequestError(text.TRAIN_NO_BUDGET)
        named = (name or "").strip() or re.sub(r"[^A-Za-z0-9._-]+", "-", pictures.name).strip("-._")[:40]
        check_name(named or stage)
        settings = [f"data.path={pictures}", f"training.name={named or stage}"]
        if begin:
            settings.append(f"init.model={begin}")
            if stage == "diffusion":
                settings.append(f"optimizer.learning_rate={FINE_TUNING_RATE}")
        elif stage == "diffusion" and autoencoder:
            settings.append(f"model.autoencoder={autoencoder}")
        if side:
            settings.append(f"data.resolution={int(side)}")
        kept = load_config(KINDS[stage], preset, []).training
        steps = {STEPS: budget, PICTURES: budget / kept.batch_size}.get(unit, kept.steps)
        order = Order(
            stage=stage,
            preset=preset,
            name=named or stage,
            settings=tuple(settings),
            minutes=budget if unit == MINUTES else None,
            steps=min(MAX_STEPS, max(1, math.ceil(steps))),
            more=tuple(line.strip() for line in (more or "").splitlines() if line.strip()),
        )
        _ = order.arguments  # says what is wrong with them
        return order

    def begins(self, stage: str) -> list[tuple[str, str]]:
        """What a training of this stage can begin from: the page's models, those of other runs, nothing."""
        found = {str(card.path): card.name for card in self.context.models if not card.elsewhere}
        for one in trainings():
            folder = one.autoencoder if stage == "autoencoder" else one.model
            if folder is not None:
                found.setdefault(str(folder.absolute()), one.name)
        return [*((name, path) for path, name in found.items()), (text.TRAIN_FROM_NOTHING, "")]

    def autoencoders(self) -> list[tuple[str, str]]:
        """Whose latents a new denoiser can learn: the preset's choice, or one of these."""
        begins = self.begins("autoencoder")[:-1]
        return [(text.TRAIN_AS_PRESET, ""), *begins]

    def choose_stage(self, stage: str) -> tuple[Any, ...]:
        """Updates of begin, preset, side and autoencoder for another stage."""
        if stage not in KINDS:
            raise RequestError(text.TRAIN_NO_PRESET)
        begins, names = self.begins(stage), presets(stage)
        begin = "" if stage == "autoencoder" else begins[0][1]
        preset = f"starter-{stage}"
        return (
            gr.update(choices=begins, value=begin),
            gr.update(choices=names, value=preset),
            side_of(begin, stage, preset),
            gr.update(choices=self.autoencoders(), value="", visible=stage == "diffusion" and not begin),
        )

    def choose_begin(self, stage: str, begin: str | None, preset: str) -> tuple[Any, Any]:
        """Updates of side and autoencoder: a trained model brings its own."""
        if stage not in KINDS or preset not in presets(stage):
            raise RequestError(text.TRAIN_NO_PRESET)
        new = stage == "diffusion" and not begin
        missing = text.TRAIN_NO_AUTOENCODER.format(preset=preset) if new and lacks_autoencoder(preset) else ""
        return side_of(begin or "", stage, preset), gr.update(visible=new, info=missing)


def lacks_autoencoder(preset: str, settings: Sequence[str] = ()) -> bool:
    """Whether a preset of the denoiser, with these settings, names neither an autoencoder nor a model."""
    config = load_config(DiffusionConfig, preset, list(settings))
    return not config.model.autoencoder and not config.init.model


def presets(stage: str) -> list[str]:
    """The presets of a stage, the starter's first."""
    names = [file.stem for file in PRESETS.glob("*.toml") if stage in file.stem.split("-")]
    order = ("starter", "tiny", "one", "many", "teach")
    return sorted(names, key=lambda name: (order.index(name.partition("-")[0]), name))


def side_of(begin: str, stage: str, preset: str) -> int:
    """Pixels of a side of the pictures: those of the model that it begins from, else the preset's."""
    if begin and stage != "autoencoder":
        try:
            defaults = read_defaults(begin)
        except StudioError:
            pass
        else:
            return min(defaults.width, defaults.height)
    side: int = load_config(KINDS[stage], preset, []).data.resolution
    return side
