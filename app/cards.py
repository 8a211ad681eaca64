"""What the page knows of a model folder without loading it: its name, defaults, sizes and examples."""

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from app import text
from models.errors import ModelError, RequestError
from pipelines.request import MAX_SIZE_PIXELS, MIN_SIZE_PIXELS

CUSTOM = "custom"
SHAPES = (("square", 1.0), ("portrait", 3 / 4), ("landscape", 4 / 3), ("tall", 9 / 16), ("wide", 16 / 9))
MIN_LATENTS_A_SIDE = 8  # presets are multiples of what gives at least this many steps to the native size
DEFAULTS = {"width": 512, "height": 512, "steps": 20, "guidance_scale": 7.0, "sampler": "DPM++ 2M", "schedule": "Automatic"}


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelCard:
    """A model as the page offers it; `factor` is pixels per latent, which every size is a multiple of."""

    name: str
    path: Path
    defaults: dict[str, Any]
    factor: int
    examples: tuple[str, ...]

    @property
    def sizes(self) -> list[tuple[str, str]]:
        """Size presets as (words, value), about as many pixels each as the model was made for."""
        width, height = self.defaults["width"], self.defaults["height"]
        multiple = self.factor
        while multiple * 2 <= 64 and math.sqrt(width * height) / (multiple * 2) >= MIN_LATENTS_A_SIDE:
            multiple *= 2
        found: dict[str, str] = {}
        for name, ratio in (("native", width / height), *SHAPES):
            wide = width if name == "native" else _near(math.sqrt(width * height * ratio), multiple)
            high = height if name == "native" else _near(math.sqrt(width * height / ratio), multiple)
            if name == "native":
                name = "square" if width == height else "portrait" if width < height else "landscape"
            value = f"{wide}x{high}"
            found.setdefault(value, f"{text.SIZE_NAMES[name]} {wide}×{high}")
        return [(words, value) for value, words in found.items()] + [(text.CUSTOM_SIZE, CUSTOM)]

    @property
    def size(self) -> str:
        """The size the model was made for, as a preset's value."""
        return f"{self.defaults['width']}x{self.defaults['height']}"


def read_card(folder: Path) -> ModelCard:
    """The card of a model folder; ModelError if its small files cannot be read."""
    defaults = DEFAULTS | {key: value for key, value in _json(folder / "generation_defaults.json").items() if key in DEFAULTS}
    vae = _json(folder / "vae" / "config.json")
    levels = 2 ** (len(vae.get("block_out_channels", [0] * 4)) - 1)
    patch = math.isqrt(max(1, int(vae.get("in_channels", 3)) // 3))
    examples = _json(folder / "examples.json").get("prompts", text.EXAMPLE_PROMPTS)
    name = str(_json(folder / "model_index.json").get("_name", folder.name))
    return ModelCard(
        name=name,
        path=folder,
        defaults=defaults,
        factor=levels * patch,
        examples=tuple(str(example) for example in examples)[:8],
    )


def parse_size(choice: str, width: float | None, height: float | None) -> tuple[int, int]:
    """The size that the form asks for: a preset's value, or the two numbers of the custom one."""
    if choice != CUSTOM:
        wide, _, high = choice.partition("x")
        if not (wide.isdecimal() and high.isdecimal() and len(choice) < 12):
            raise RequestError(text.NOT_A_SIZE)
        return int(wide), int(high)
    if width is None or height is None or not (math.isfinite(width) and math.isfinite(height)):
        raise RequestError(text.NOT_A_SIZE)
    return int(width), int(height)


def _near(value: float, multiple: int) -> int:
    return min(MAX_SIZE_PIXELS, max(MIN_SIZE_PIXELS, multiple, round(value / multiple) * multiple))


def _json(path: Path) -> dict[str, Any]:
    if not path.exists():
        return {}
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"{path} cannot be read: {error}. Put the model folder's own file back.") from None
    if not isinstance(values, dict):
        raise ModelError(f"{path} must hold a JSON object.")
    return values
