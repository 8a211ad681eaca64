"""What a model folder says about its own use: how to draw with it, how its latents look. No torch."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal, Self, get_args

from models.errors import ModelError
from models.single_file.checkpoint import is_single_file, read_checkpoint, sidecar
from models.weights import read_json
from models.writing import write_json

DEFAULTS_FILE = "generation_defaults.json"
PREVIEW_FILE = "preview.json"
INSTANT = "unet_instant"  # the folder of a student, a second UNet that draws in few steps
SINGLE_FILE_GUIDANCE = 7.0  # as the programs have it that such files are made for
METRICS = "metrics.json"  # what `evaluate` found out about the model
ImageConditionKind = Literal["inpaint", "upscale"]
# Pipelines of diffusers whose UNets are shown a masked picture.
INPAINTING = ("StableDiffusionInpaintPipeline", "StableDiffusionXLInpaintPipeline")
XL_GUIDANCE = 5.0  # diffusers' own for SDXL


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerationDefaults:
    """How a model draws best where a request does not say: sizes in pixels, names as in the sampler table.

    `instant` is how its student does, None where it has none.
    """

    width: int
    height: int
    steps: int = 25
    guidance_scale: float = 7.5
    sampler: str = "DPM++ 2M"
    schedule: str = "Automatic"
    instant: "GenerationDefaults | None" = None

    def __post_init__(self) -> None:
        for name in ("width", "height", "steps"):
            value = getattr(self, name)
            if type(value) is not int or value < 1:
                raise ModelError(
                    f"{DEFAULTS_FILE}: {name} = {value!r} is no whole number above 0; correct it"
                )
        if not _is_number(self.guidance_scale) or self.guidance_scale < 0:
            raise ModelError(
                f"{DEFAULTS_FILE}: guidance_scale = {self.guidance_scale!r} is wrong; correct it"
            )
        for name in ("sampler", "schedule"):
            if not isinstance(getattr(self, name), str):
                raise ModelError(f"{DEFAULTS_FILE}: {name} = {getattr(self, name)!r} is no name; correct it")


@dataclass(frozen=True, slots=True)
class LatentPreview:
    """The linear map from normalised latents to RGB in [-1, 1]: rgb = latents @ weight + bias."""

    weight: tuple[tuple[float, float, float], ...]  # C x 3
    bias: tuple[float, float, float]

    @classmethod
    def from_dict(cls, values: dict[str, Any], channels: int) -> Self:
        """Read {"weight": C x 3, "bias": 3}; ModelError where it is anything else."""
        weight, bias = values.get("weight"), values.get("bias")
        rows = [*weight, bias] if isinstance(weight, list) else []
        sound = all(isinstance(row, list) and len(row) == 3 and all(map(_is_number, row)) for row in rows)
        if not sound or len(rows) != channels + 1 or len(values) != 2:
            raise ModelError(f"{PREVIEW_FILE} must hold weight ({channels} x 3), bias (3)")
        return cls(tuple(tuple(row) for row in rows[:-1]), tuple(rows[-1]))


@dataclass(frozen=True, slots=True)
class ImageCondition:
    """The picture a model is shown beside its prompt: one with a part to paint, or one `factor` too small."""

    kind: ImageConditionKind
    factor: int = 1

    @property
    def why_not_words(self) -> str | None:
        """Why such a model cannot draw from words alone, or None: a hole may be the whole picture."""
        if self.kind == "inpaint":
            return None
        return (
            f"This model enlarges pictures {self.factor} times and cannot draw from words alone; choose a "
            "text-to-image model."
        )

    @classmethod
    def from_index(cls, index: Mapping[str, Any]) -> Self | None:
        """What model_index.json says, None for a text-to-image model; ModelError where it is not known."""
        if "image_condition" not in index:
            return cls("inpaint") if index.get("_class_name") in INPAINTING else None
        values = index["image_condition"]
        if isinstance(values, dict) and values.keys() <= {"kind", "factor"}:
            kind: Any = values.get("kind")
            factor = values.get("factor", 1)
            if kind in get_args(ImageConditionKind) and type(factor) is int and 1 <= factor <= 64:
                return cls(kind, factor)
        raise ModelError(f"model_index.json: image_condition = {values!r} is not known; use another model")


def is_distilled(scheduler_config: Mapping[str, Any]) -> bool:
    """Whether a model was distilled for LCM, by its scheduler_config.json."""
    return scheduler_config.get("_class_name") == "LCMScheduler"


def pixels_a_latent(vae_config: Mapping[str, Any]) -> int:
    """How many pixels a side one latent of this autoencoder stands for, pixels folded into channels counted.

    Raises ModelError for a config that does not say.
    """
    channels, levels = vae_config.get("in_channels", 3), vae_config.get("block_out_channels", [0] * 4)
    if type(channels) is not int or channels < 1 or not isinstance(levels, list) or not levels:
        raise ModelError(
            f"vae/config.json: in_channels = {channels!r} with block_out_channels = {levels!r} is wrong; "
            "get the file again"
        )
    return max(1, math.isqrt(channels // 3)) << (len(levels) - 1)


def read_defaults(path: Path | str) -> GenerationDefaults:
    """The defaults of a model folder; where it has no such file, Stable Diffusion's with the UNet's own size.

    Those of a single file are its family's, and what the JSON file beside it says.
    Raises ModelError for an unknown key, a missing size or a wrong value.
    """
    if is_single_file(path):
        return _defaults_of_file(Path(path))
    file, student = Path(path) / DEFAULTS_FILE, Path(path) / INSTANT
    instant = _read_defaults_file(student / DEFAULTS_FILE) if student.is_dir() else None
    if file.is_file():
        return replace(_read_defaults_file(file), instant=instant)
    unet, vae = read_json(Path(path) / "unet" / "config.json"), read_json(Path(path) / "vae" / "config.json")
    size = unet.get("sample_size")
    side = size * pixels_a_latent(vae) if type(size) is int else 512
    defaults = GenerationDefaults(width=side, height=side, instant=instant)
    is_xl = unet.get("addition_embed_type") == "text_time"
    return replace(defaults, guidance_scale=XL_GUIDANCE) if is_xl else defaults


def write_defaults(path: Path | str, defaults: GenerationDefaults) -> None:
    """Write the defaults of a model folder, or of the folder of its student, but not what `instant` says."""
    write_json(Path(path) / DEFAULTS_FILE, {k: v for k, v in asdict(defaults).items() if k != "instant"})


def _read_defaults_file(file: Path) -> GenerationDefaults:
    values = _known(read_json(file), file)
    if not {"width", "height"} <= values.keys():
        raise ModelError(f"{file} lacks width or height; add them")
    return GenerationDefaults(**values)


def _defaults_of_file(model: Path) -> GenerationDefaults:
    side, beside = read_checkpoint(model).side, sidecar(model)
    said = read_json(beside) if beside.is_file() else {}
    said.pop("prediction_type", None)  # which is read with the header
    return GenerationDefaults(
        **{"width": side, "height": side, "guidance_scale": SINGLE_FILE_GUIDANCE} | _known(said, beside)
    )


def _known(values: dict[str, Any], file: Path) -> dict[str, Any]:
    for name in values:
        if name == "instant" or name not in (field.name for field in fields(GenerationDefaults)):
            raise ModelError(f"{file} has the unknown key {name!r}; remove it")
    return values


def read_preview(path: Path | str, channels: int) -> LatentPreview | None:
    """The preview of a model folder with `channels` latent channels, or None where it has none."""
    file = Path(path) / PREVIEW_FILE
    return LatentPreview.from_dict(read_json(file), channels) if file.is_file() else None
