"""What is asked of a model, what it tells on the way, and what it gives back.

Imports no torch, so the command line can answer a wrong request at once.
"""

import dataclasses
import json
import math
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Self

from models.errors import RequestError
from pipelines.samplers import SAMPLERS, canonical_sampler, canonical_schedule

if TYPE_CHECKING:
    import torch
    from PIL import Image

MIN_SIZE_PIXELS, MAX_SIZE_PIXELS, SIZE_MULTIPLE_PIXELS = 32, 2048, 8
MAX_STEPS = 150
MAX_GUIDANCE_SCALE = 30.0
MAX_COUNT = 100
MAX_PROMPT_CHARACTERS = 10_000
MAX_STYLES = 20
MAX_SEED = 2**32 - 1  # torch's CPU generator uses 32 bits of a seed: larger ones would repeat smaller ones
NOISES = ("cpu", "nv")
NO_STUDENT = (
    "This model has no student to draw instantly with; leave instant out, choose another model, or train one "
    "with `train distill`."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerationRequest:
    """One order for `count` pictures, valid by construction: RequestError says in one sentence what is wrong.

    Sizes are pixels. Image i is drawn with seed + i; seed None means a random one, drawn by `resolve`.
    `noise` is the source of random numbers: torch on the CPU, or the Philox numbers of NVIDIA GPUs.
    `styles` are named ones whose words are added. In the request of one picture, `template` and
    `negative_template` keep what was typed where `prompt` and `negative_prompt` are what that became.
    `instant` asks the model's student, which was trained to draw in few steps, in the model's place.
    Names of samplers and schedules are matched without case and kept as the table spells them.
    """

    prompt: str
    negative_prompt: str = ""
    width: int
    height: int
    steps: int
    guidance_scale: float
    sampler: str
    schedule: str = "Automatic"
    seed: int | None = None
    count: int = 1
    noise: Literal["cpu", "nv"] = "cpu"
    instant: bool = False
    styles: tuple[str, ...] = ()
    template: str | None = None
    negative_template: str | None = None

    def __post_init__(self) -> None:
        for name in ("prompt", "negative_prompt"):
            _check_text(name, getattr(self, name))
        for name in ("template", "negative_template"):
            if getattr(self, name) is not None:
                _check_text(name, getattr(self, name))
        if not isinstance(self.styles, list | tuple):
            raise RequestError(f"styles must be a list of names, not {_shown(self.styles)}.")
        if len(self.styles) > MAX_STYLES:
            raise RequestError(f"styles names {len(self.styles)} styles; at most {MAX_STYLES} can be used.")
        for style in self.styles:
            _check_text("a style", style)
        for name in ("width", "height"):
            size = getattr(self, name)
            _check_whole(name, size, MIN_SIZE_PIXELS, MAX_SIZE_PIXELS, " pixels")
            if size % SIZE_MULTIPLE_PIXELS:
                near = max(MIN_SIZE_PIXELS, round(size / SIZE_MULTIPLE_PIXELS) * SIZE_MULTIPLE_PIXELS)
                raise RequestError(
                    f"{name} must be a multiple of {SIZE_MULTIPLE_PIXELS} pixels, not {size}; try {near}."
                )
        _check_whole("steps", self.steps, 1, MAX_STEPS)
        guidance = self.guidance_scale
        if isinstance(guidance, bool) or not isinstance(guidance, int | float):
            raise RequestError(f"guidance_scale must be a number, not {_shown(guidance)}.")
        if not 0 <= guidance <= MAX_GUIDANCE_SCALE:  # NaN fails every comparison
            raise RequestError(
                f"guidance_scale must be a number from 0 to {MAX_GUIDANCE_SCALE:g}, not {_shown(guidance)}."
            )
        for name in ("sampler", "schedule"):
            if not isinstance(getattr(self, name), str):
                raise RequestError(f"{name} must be a name, not {_shown(getattr(self, name))}.")
        sampler, schedule = canonical_sampler(self.sampler), canonical_schedule(self.schedule)
        if schedule not in SAMPLERS[sampler].schedules:
            takes = ", ".join(SAMPLERS[sampler].schedules)
            raise RequestError(
                f"The sampler {sampler} does not take the schedule {schedule}; it takes {takes}."
            )
        _check_whole("count", self.count, 1, MAX_COUNT)
        if self.seed is not None:
            _check_whole("seed", self.seed, 0, MAX_SEED)
            if self.seed + self.count - 1 > MAX_SEED:
                raise RequestError(
                    f"seed {self.seed} with count {self.count} would pass the largest seed, {MAX_SEED}; "
                    "image i is drawn with seed + i."
                )
        if self.noise not in NOISES:
            raise RequestError(f'noise must be "cpu" or "nv", not {_shown(self.noise)}.')
        if not isinstance(self.instant, bool):
            raise RequestError(f"instant must be true or false, not {_shown(self.instant)}.")
        object.__setattr__(self, "guidance_scale", float(guidance))
        object.__setattr__(self, "sampler", sampler)
        object.__setattr__(self, "schedule", schedule)
        object.__setattr__(self, "styles", tuple(self.styles))

    @classmethod
    def from_options(cls, options: Mapping[str, Any], defaults: object) -> Self:
        """Build a request from what a person gave, the rest from the model's own defaults.

        Options that are None count as not given, and seed -1 as random, the way people write it.
        `defaults` is a mapping or a dataclass such as models.folder.GenerationDefaults; an instant request
        takes those that it holds under `instant`. A sampler named without a schedule gets Automatic, since
        the default schedule belongs to the default sampler. Raises RequestError, also without a student.
        """
        if dataclasses.is_dataclass(defaults) and not isinstance(defaults, type):
            defaults = dataclasses.asdict(defaults)
        if not isinstance(defaults, Mapping):
            raise TypeError(f"defaults must be a mapping or a dataclass, not {type(defaults).__name__}")
        given = {name: value for name, value in options.items() if value is not None}
        if "sampler" in given:
            given.setdefault("schedule", "Automatic")
        if given.get("seed") == -1 and not isinstance(given["seed"], bool | float):
            del given["seed"]
        values: Mapping[str, Any] = defaults
        if given.get("instant") is True and "instant" in defaults:
            if defaults["instant"] is None:
                raise RequestError(NO_STUDENT)
            values = defaults["instant"]
        known = {field.name for field in dataclasses.fields(cls)} - {"instant"}
        return cls.from_dict({k: v for k, v in values.items() if k in known} | given)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Build a request from its fields by name; RequestError on an unknown or a missing one."""
        fields = {field.name: field for field in dataclasses.fields(cls)}
        unknown = [_shown(name) for name in values if name not in fields]
        if unknown:
            raise RequestError(f"Unknown field {unknown[0]} in the request; there is {', '.join(fields)}.")
        missing = [n for n, f in fields.items() if f.default is dataclasses.MISSING and n not in values]
        if missing:
            raise RequestError(f"The request lacks {', '.join(missing)}.")
        return cls(**values)

    @classmethod
    def from_json(cls, text: str | bytes) -> Self:
        """Read what `to_json` wrote; RequestError if it is not exactly that."""
        try:
            values = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise RequestError("The request is not valid JSON.") from error
        if not isinstance(values, dict):
            raise RequestError("The request must be a JSON object.")
        return cls.from_dict(values)

    def to_dict(self) -> dict[str, Any]:
        """The fields by name, as JSON has them."""
        return dataclasses.asdict(self) | {"styles": list(self.styles)}

    def to_json(self) -> str:
        """The request as one line of JSON."""
        return json.dumps(self.to_dict(), ensure_ascii=False)

    def resolve(self) -> Self:
        """The same request with a random seed in the place of None, so that it can be drawn again."""
        if self.seed is not None:
            return self
        return dataclasses.replace(self, seed=secrets.randbelow(MAX_SEED - MAX_COUNT))

    def part(self, first: int, count: int) -> Self:
        """The request that draws images `first` to `first + count - 1` of this one, whose seed is known."""
        if self.seed is None:
            raise ValueError("a request with a random seed must be resolved first")
        return dataclasses.replace(self, seed=self.seed + first, count=count)

    def for_image(self, index: int) -> Self:
        """The request that draws image `index` of this one alone; the seed must be known."""
        return self.part(index, 1)

    def as_typed(self) -> Self:
        """The request with the prompts that a person typed, before styles and wildcards became words."""
        if self.template is None:
            return self
        negative_prompt = self.negative_prompt if self.negative_template is None else self.negative_template
        return dataclasses.replace(
            self, prompt=self.template, negative_prompt=negative_prompt, template=None, negative_template=None
        )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class StepEvent:
    """One sampling step of images `image_index` .. `image_index + images - 1` (one batch) is done.

    `step` counts from 1 to `total`, whatever the number of model calls in a step. The tensors are references,
    (images, C, h, w) float32, None where an engine cannot give them: `latents` is what the model saw in this
    step, variance-preserving, at noise level `sigma` (noise to signal), and `denoised` the clean latents it
    predicted from that; epsilon follows as (latents * sqrt(1 + sigma^2) - denoised) / sigma. `sample` are the
    same latents as the sampler has them, to the bit: `latents` itself, or latents at the scale of sigma.
    """

    image_index: int
    images: int
    step: int
    total: int
    sigma: float
    latents: "torch.Tensor | None"
    denoised: "torch.Tensor | None"
    sample: "torch.Tensor | None" = None

    def fraction_done(self, count: int) -> float:
        """How much of a job of `count` images is done, 0 to 1."""
        return (self.image_index + self.images * self.step / self.total) / count


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class GenerationResult:
    """The finished pictures of a request (image i has seed + i), what drew them and in how many seconds.

    `pictures` are the requests of each alone, with the prompt it was drawn from.
    """

    images: "list[Image.Image]"
    request: GenerationRequest
    model_name: str
    model_id: str
    engine: str
    seconds: float
    pictures: tuple[GenerationRequest, ...] = ()

    def __post_init__(self) -> None:
        if not self.pictures:
            pictures = tuple(self.request.for_image(index) for index in range(len(self.images)))
            object.__setattr__(self, "pictures", pictures)


def _check_text(name: str, value: object) -> None:
    if not isinstance(value, str):
        raise RequestError(f"{name} must be text, not {_shown(value)}.")
    if len(value) > MAX_PROMPT_CHARACTERS:
        raise RequestError(
            f"{name} has {len(value)} characters; at most {MAX_PROMPT_CHARACTERS} can be read. Shorten it."
        )
    if "\0" in value or any("\ud800" <= character <= "\udfff" for character in value):
        raise RequestError(f"{name} holds characters that are not text (a null or half a surrogate pair).")


def _check_whole(name: str, value: object, low: int, high: int, unit: str = "") -> None:
    if isinstance(value, bool) or not isinstance(value, int):
        raise RequestError(f"{name} must be a whole number, not {_shown(value)}.")
    if not low <= value <= high:
        raise RequestError(f"{name} must be from {low} to {high}{unit}, not {_shown(value)}.")


def _shown(value: object) -> str:
    """A value for a message: short, and safe for numbers too long for Python to write down."""
    if isinstance(value, int) and value.bit_length() > 200:
        return "a number of more than 60 digits"
    if isinstance(value, float) and not math.isfinite(value):
        return {"nan": "NaN (not a number)", "inf": "infinity", "-inf": "minus infinity"}[str(value)]
    if isinstance(value, str | int | float | bool | None):
        text = json.dumps(value, ensure_ascii=True)
        return text if len(text) <= 60 else f"{text[:57]}..."
    return f"a {type(value).__name__}"
