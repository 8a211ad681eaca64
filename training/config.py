"""Training configurations: frozen dataclasses, TOML presets, and `--set section.key=value`."""

import dataclasses
import json
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar

from models.errors import ConfigError
from training.config_values import build, takes_text, toml_value

PRESETS = Path(__file__).parent / "presets"
DECIDED_BY_INIT = (
    "autoencoder.preset",
    "model.preset",
    "model.autoencoder",
    "model.text_encoder",
    "model.prediction",
    "model.beta_start",
    "model.beta_end",
)


def _bounded(default: Any, low: float = 0, high: float = float("inf")) -> Any:
    """A number that must lie from `low` to `high`."""
    return field(default=default, metadata={"low": low, "high": high})


@dataclass(frozen=True, slots=True)
class Data:
    """Which pictures."""

    path: str = "data/starter"
    resolution: int = _bounded(128, 16, 2048)  # pixels of a side of the square shape
    crop: int = _bounded(0)  # pixels of a random crop, 0 = whole picture (stage 1 only)
    split: str = "train"  # of the metadata; pictures without a split belong to every one
    background: str = "white"  # a colour under transparent pictures
    buckets: int = _bounded(1, 1, 99)  # shapes of about resolution^2 pixels; 1 = the centre, square
    bucket_multiple: int = _bounded(64, 1, 2048)  # pixels; what the sides of those shapes are multiples of
    flip: float = _bounded(0.0, 0, 1)  # probability of showing a picture mirrored
    cache: bool = True  # keep latents and text states on disk; false = encode at every step (stage 2 only)


@dataclass(frozen=True, slots=True)
class AutoencoderModel:
    """Stage 1: the autoencoder and its loss."""

    preset: str = ""  # the autoencoder's size; "" = that of init.model, else starter
    regularizer: Literal["kl", "vq"] = "kl"
    kl_weight: float = _bounded(1e-4)  # on the mean over latent elements, beside means over pixel elements
    codebook_weight: float = _bounded(1.0)  # on the distance of latents and codes (VQ)
    commitment: float = _bounded(0.25)  # beta: the encoder's share of that distance
    revive_after_steps: int = _bounded(200)  # a code that no latent chose for so long is moved; 0 = never
    gradient_weight: float = _bounded(1.0)
    perceptual_weight: float = _bounded(0.0)
    perceptual: str = ""  # a safetensors file of LPIPS-VGG; "" = EfficientNet-Lite0
    learn_logvar: bool = True
    adversarial_weight: float = _bounded(0.0)  # 0 = no discriminator
    adversarial_start_step: int = _bounded(0)
    discriminator_channels: int = _bounded(64, 16, 1024)  # a multiple of 16
    discriminator_layers: int = _bounded(3, 1, 6)
    equivariance: float = _bounded(0.0, 0, 1)  # share of steps with a turned or halved latent
    decoder_only: bool = False  # the encoder of init.model, and so its latents, stay as they are


@dataclass(frozen=True, slots=True)
class DiffusionModel:
    """Stage 2: the denoiser, what it is told, and the folders whose vae/ and text_encoder/ it stands on."""

    preset: str = ""  # the denoiser's size; "" = that of init.model, else starter
    autoencoder: str = ""  # a folder, or "pixels"; this and the text encoder: "" = those of init.model
    condition: Literal["text", "class", "none"] = "text"
    text_encoder: str = ""
    train_text_encoder: Literal["no", "scratch", "finetune"] = "no"  # beside the denoiser
    text_layers: int = _bounded(0, 0, 256)  # of a text encoder from scratch; 0 = as many as the folder's
    image_condition: Literal["none", "inpaint", "upscale"] = "none"
    upscale_factor: int = _bounded(4, 2, 16)  # how much smaller the pictures are that "upscale" enlarges
    prediction: Literal["", "flow", "epsilon", "v_prediction"] = ""  # "" = that of init.model, else flow
    beta_start: float = _bounded(0.0015, 1e-6, 0.1)  # the noise process of epsilon and v_prediction:
    beta_end: float = _bounded(0.0195, 1e-6, 0.1)  # evenly spaced square roots; LDM's; init.model has its own
    min_snr_gamma: float = _bounded(0.0)  # 0 = every timestep counts the same; 5 in the paper
    offset_noise: float = _bounded(0.0, 0, 1)  # spread of a shift of each channel's noise; 0.1 where used
    timestep_shift: float = _bounded(1.0, 0.1, 10)  # of flow: above 1 = more often where there is more noise
    dropout: float = _bounded(0.0, 0, 0.9)
    caption_dropout: float = _bounded(0.1, 0, 1)  # how often a caption or class is left out, for guidance

    def __post_init__(self) -> None:
        if self.condition != "text" and self.train_text_encoder != "no":
            raise ConfigError(
                f'model.train_text_encoder is "{self.train_text_encoder}", but model.condition is '
                f'"{self.condition}", which reads no text; set one of the two'
            )
        if self.text_layers and self.train_text_encoder != "scratch":
            raise ConfigError(
                f"model.text_layers is {self.text_layers}, but only a text encoder from scratch can be made "
                "of another depth; set model.train_text_encoder=scratch"
            )
        if self.prediction == "flow" and self.min_snr_gamma:
            raise ConfigError(
                f"model.min_snr_gamma = {self.min_snr_gamma} weighs epsilon and v_prediction, and "
                'model.prediction is "flow", whose times are already drawn by weight; set one of the two'
            )


@dataclass(frozen=True, slots=True)
class Optimizer:
    """AdamW with linear warm-up, then constant, then a cosine decay to zero over the last share."""

    learning_rate: float = _bounded(4e-4, 0, 1)
    betas: tuple[float, float] = (0.9, 0.99)
    epsilon: float = _bounded(1e-8, 1e-16, 1)  # gradients below it, rounding noise, hardly move a weight
    weight_decay: float = _bounded(0.01, 0, 1)
    warmup_steps: int = _bounded(200)
    decay_share: float = _bounded(0.3, 0, 1)
    clip_norm: float = _bounded(1.0, 1e-6)


@dataclass(frozen=True, slots=True)
class Training:
    """How long and how."""

    name: str = "run"
    steps: int = _bounded(1000, 1)
    batch_size: int = _bounded(32, 1)  # of all processes and micro-batches together
    accumulate: int = _bounded(1, 1)  # micro-batches a step, each with its share of the batch
    gradient_checkpointing: bool = False  # less memory for a third more time
    sharding: Literal["ddp", "fsdp2"] = "ddp"  # what each of several processes holds: all, or its share
    seed: int = _bounded(0)
    precision: Literal["no", "bf16", "fp16"] = "bf16"
    log_every_steps: int = _bounded(20)  # 0 = at the end alone
    sample_every_steps: int = _bounded(500)  # 0 = at the end alone
    sample_pictures: int = _bounded(16, 1, 256)  # how many captions are drawn then (stage 2 only)
    tracker: Literal["", "tensorboard", "trackio"] = ""  # beside metrics.jsonl, which is always written


@dataclass(frozen=True, slots=True)
class Ema:
    """Exponential moving average of the weights: decay 1 - step^-power from step 1, at most `max_decay`."""

    power: float = _bounded(0.75, 0.01, 10)
    max_decay: float = _bounded(0.9995, 0, 1)


@dataclass(frozen=True, slots=True)
class Checkpoints:
    """When the whole state is written, and how many are kept."""

    every_steps: int = _bounded(0)  # 0 = by time alone
    every_seconds: int = _bounded(300, 1)
    keep: int | Literal["all"] = _bounded(2, 1)


@dataclass(frozen=True, slots=True)
class Init:
    """A model folder, or the folder of a run, that training starts from; it decides the architecture."""

    model: str = ""


@dataclass(frozen=True, slots=True)
class Lora:
    """Adapters of low rank on a frozen `init.model`, in the place of training all of its denoiser."""

    rank: int = _bounded(0, 0, 1024)  # 0 = no adapters
    alpha: float = _bounded(0.0)  # their scale is alpha / rank; 0 = the rank
    targets: tuple[str, ...] = ("to_q", "to_k", "to_v", "to_out.0")  # how the adapted layers' names end
    text_encoder: bool = False  # the text encoder's attention too
    base: str = ""  # what they belong to: the model id of init.model, filled in where it is not given
    preserve: float = _bounded(
        0.0, 0, 0.9
    )  # share of each batch that keeps init.model's answer to other words


@dataclass(frozen=True, slots=True)
class AutoencoderConfig:
    """Everything `train autoencoder` can be told."""

    data: Data = field(default_factory=Data)
    autoencoder: AutoencoderModel = field(default_factory=AutoencoderModel)
    optimizer: Optimizer = field(default_factory=Optimizer)
    training: Training = field(default_factory=Training)
    ema: Ema = field(default_factory=Ema)
    checkpoints: Checkpoints = field(default_factory=Checkpoints)
    init: Init = field(default_factory=Init)


@dataclass(frozen=True, slots=True)
class DiffusionConfig:
    """Everything `train diffusion` can be told."""

    data: Data = field(default_factory=Data)
    model: DiffusionModel = field(default_factory=DiffusionModel)
    optimizer: Optimizer = field(default_factory=Optimizer)
    training: Training = field(default_factory=Training)
    ema: Ema = field(default_factory=Ema)
    checkpoints: Checkpoints = field(default_factory=Checkpoints)
    init: Init = field(default_factory=Init)
    lora: Lora = field(default_factory=Lora)


@dataclass(frozen=True, slots=True)
class Distill:
    """The student: into how many steps it gathers the teacher's, and how exactly the teacher takes them."""

    steps: int = _bounded(4, 1, 50)
    guidance_scale: float | Literal["teacher"] = _bounded("teacher", 0, 30)  # of the teacher's own defaults
    substeps: int = _bounded(4, 1, 100)  # of the teacher from each level of the student's sampler to the next
    sampler: Literal["Euler", "Euler a"] = "Euler"  # of the student; Euler a adds noise after each step
    begin: Literal["teacher", "student"] = "teacher"  # "student" = the one that init.model has already


@dataclass(frozen=True, slots=True)
class DistillConfig:
    """Everything `train distill` can be told; `init.model` is the teacher."""

    data: Data = field(default_factory=Data)
    distill: Distill = field(default_factory=Distill)
    optimizer: Optimizer = field(default_factory=Optimizer)
    training: Training = field(default_factory=Training)
    ema: Ema = field(default_factory=Ema)
    checkpoints: Checkpoints = field(default_factory=Checkpoints)
    init: Init = field(default_factory=Init)
    lora: Lora = field(default_factory=Lora)


AnyConfig = AutoencoderConfig | DiffusionConfig | DistillConfig
Config = TypeVar("Config", AutoencoderConfig, DiffusionConfig, DistillConfig)


def load_config(kind: type[Config], source: str, overrides: list[str]) -> Config:
    """A configuration from a preset's name or a TOML file, with `section.key=value` overrides applied.

    Raises: ConfigError naming the unknown key's nearest neighbour, or the value that does not fit.
    """
    path = Path(source) if source.endswith(".toml") else PRESETS / f"{source}.toml"
    if not path.is_file():
        names = ", ".join(sorted(preset.stem for preset in PRESETS.glob("*.toml")))
        raise ConfigError(f"no configuration {source!r}; name a .toml file or one of: {names}")
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not valid TOML: {error}") from error
    if path.parent == PRESETS and any(word.strip().startswith("init.model=") for word in overrides):
        # A preset gives way to the folder, a person's own wish does not.
        for decided in DECIDED_BY_INIT:
            section, name = decided.split(".")
            values.get(section, {}).pop(name, None)
    for override in overrides:
        key, equals, text = override.partition("=")
        section, dot, name = key.strip().partition(".")
        if not (equals and dot and section and name):
            raise ConfigError(f"--set takes section.key=value, not {override!r}")
        if not isinstance(values.setdefault(section, {}), dict):
            raise ConfigError(f"{section} is a section, but a value in {path}")
        values[section][name] = text.strip() if takes_text(kind, section, name) else toml_value(text)
    built: Config = build(kind, values)
    return built


def dump_config(config: AnyConfig) -> str:
    """The whole configuration as TOML, readable by `load_config`."""
    lines = []
    for section in dataclasses.fields(config):
        lines.append(f"[{section.name}]")
        values = dataclasses.asdict(getattr(config, section.name))
        # JSON's strings, numbers, booleans and lists are TOML's as well.
        lines += [f"{key} = {json.dumps(value, ensure_ascii=False)}" for key, value in values.items()]
        lines.append("")
    return "\n".join(lines)
