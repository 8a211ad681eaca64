"""What the page knows of a model folder without loading it: its name, defaults, sizes and examples."""

import math
from dataclasses import dataclass, replace
from pathlib import Path

from app import text
from models.defaults import GenerationDefaults, is_distilled, pixels_a_latent, read_defaults
from models.errors import ModelError, RequestError
from models.folder_check import model_name
from models.parts import has_part, part_config
from models.weights import read_json
from pipelines.request import MAX_SIZE_PIXELS, MIN_SIZE_PIXELS, SIZE_MULTIPLE_PIXELS
from pipelines.samplers import SAMPLERS, canonical_sampler, canonical_schedule, sampler_names

CUSTOM = "custom"
SHAPES = (("square", 1.0), ("portrait", 3 / 4), ("landscape", 4 / 3), ("tall", 9 / 16), ("wide", 16 / 9))
MIN_MULTIPLES_A_SIDE, MAX_MULTIPLE_PIXELS = 8, 64  # how coarse the sizes of the presets are
MAX_EXAMPLES, MAX_EXAMPLE_CHARACTERS = 8, 80


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelCard:
    """A model as the page offers it; sizes are multiples of `factor` pixels, LCM is for `distilled` ones.

    `words` is whether it needs a prompt: one that draws classes does not. `elsewhere` names the server that
    draws with it where that is not this one: then there is no folder at `path`.
    """

    name: str
    path: Path
    defaults: GenerationDefaults
    factor: int
    distilled: bool
    examples: tuple[str, ...]
    words: bool = True
    elsewhere: str = ""

    @property
    def sizes(self) -> list[tuple[str, str]]:
        """Size presets as (words, value): the model's own first, the others with about as many pixels."""
        width, height = self.defaults.width, self.defaults.height
        side = math.sqrt(width * height)
        multiple = self.factor
        while multiple * 2 <= MAX_MULTIPLE_PIXELS and side / (multiple * 2) >= MIN_MULTIPLES_A_SIDE:
            multiple *= 2
        native = "square" if width == height else "portrait" if width < height else "landscape"
        found = {self.size: f"{text.SIZE_NAMES[native]} {text.size(width, height)}"}
        for name, ratio in SHAPES:
            wide, high = (_near(side * factor, multiple) for factor in (ratio**0.5, ratio**-0.5))
            found.setdefault(f"{wide}x{high}", f"{text.SIZE_NAMES[name]} {text.size(wide, high)}")
        return [(words, value) for value, words in found.items()] + [(text.CUSTOM_SIZE, CUSTOM)]

    @property
    def size(self) -> str:
        """The size the model was made for, as a preset's value."""
        return f"{self.defaults.width}x{self.defaults.height}"


def read_card(folder: Path) -> ModelCard:
    """The card of a model; ModelError if its small files do not say what they should.

    A model may bring its own example prompts: `examples.json` with {"prompts": ["a red apple", ...]}.
    Those of a model that draws classes are their names.
    """
    defaults, vae = read_defaults(folder), part_config(folder, "vae")
    distilled = is_distilled(part_config(folder, "scheduler"))
    instant = defaults.instant and usable(defaults.instant, folder, distilled)
    examples = folder / "examples.json"
    prompts = read_json(examples).get("prompts") if examples.is_file() else None
    draws_classes = has_part(folder, "class_encoder")
    if draws_classes and prompts is None:
        prompts = part_config(folder, "class_encoder").get("classes")
    if not isinstance(prompts, list):
        prompts = list(text.EXAMPLE_PROMPTS)
    return ModelCard(
        name=model_name(folder),
        path=folder,
        defaults=replace(usable(defaults, folder, distilled), instant=instant),
        factor=math.lcm(SIZE_MULTIPLE_PIXELS, pixels_a_latent(vae)),
        distilled=distilled,
        examples=tuple(str(prompt)[:MAX_EXAMPLE_CHARACTERS] for prompt in prompts[:MAX_EXAMPLES]),
        words=not draws_classes,
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


def usable(defaults: GenerationDefaults, folder: Path, distilled: bool) -> GenerationDefaults:
    """Defaults with names as the sampler table spells them; ModelError where it does not know them."""
    try:
        sampler, schedule = canonical_sampler(defaults.sampler), canonical_schedule(defaults.schedule)
    except RequestError as error:
        raise ModelError(f"The defaults of {folder} cannot be used: {error}") from None
    if sampler not in sampler_names(distilled):
        raise ModelError(f"The defaults of {folder} cannot be used: {sampler} needs a distilled model.")
    if schedule not in SAMPLERS[sampler].schedules:
        schedule = "Automatic"
    return replace(defaults, sampler=sampler, schedule=schedule)


def _near(value: float, multiple: int) -> int:
    return min(MAX_SIZE_PIXELS, max(MIN_SIZE_PIXELS, multiple, round(value / multiple) * multiple))
