"""What is asked of a model.

Imports no torch, so the command line can answer a wrong request at once.
"""

import dataclasses
import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Self

from models.errors import RequestError
from pipelines.checks import check_choice, check_flag, check_number, check_text, check_whole, shown
from pipelines.request_control import ControlInput, check_controls, read_controls
from pipelines.request_parts import ImageInput, SecondPass
from pipelines.samplers import SAMPLERS, canonical_sampler, canonical_schedule

MIN_SIZE_PIXELS, MAX_SIZE_PIXELS, SIZE_MULTIPLE_PIXELS = 32, 2048, 8
MAX_STEPS = 150
MAX_GUIDANCE_SCALE = 30.0
MAX_COUNT = 100
MAX_PROMPT_CHARACTERS = 10_000
MAX_STYLES = 20
MAX_SEED = 2**32 - 1  # torch's CPU generator uses 32 bits of a seed: larger ones would repeat smaller ones
NOISES = ("cpu", "nv")
PARTS: Mapping[str, type[ImageInput] | type[SecondPass]] = {"image": ImageInput, "second_pass": SecondPass}
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
    `tiling` makes opposite edges fit together. With a `variation_strength` above 0 the seed stays, image i
    mixes its noise with that of variation_seed + i, and a variation seed of None is drawn by `resolve` too.
    Guidance acts from `guidance_start` to `guidance_end`, shares of the steps; elsewhere the conditional
    prediction stands alone. `batch_size` is how many pictures are drawn at once, None as many as memory
    takes: it changes none of them, and no picture keeps it.
    `image` is the picture to start from, `second_pass` draws the result once more, larger, and `controls`
    are the pictures that ControlNets are shown in both.
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
    tiling: bool = False
    variation_seed: int | None = None
    variation_strength: float = 0.0
    image: ImageInput | None = None
    second_pass: SecondPass | None = None
    guidance_start: float = 0.0
    guidance_end: float = 1.0
    batch_size: int | None = None
    controls: tuple[ControlInput, ...] = ()

    def __post_init__(self) -> None:
        for name in ("prompt", "negative_prompt"):
            check_text(name, getattr(self, name), MAX_PROMPT_CHARACTERS)
        for name in ("template", "negative_template"):
            if getattr(self, name) is not None:
                check_text(name, getattr(self, name), MAX_PROMPT_CHARACTERS)
        if not isinstance(self.styles, list | tuple):
            raise RequestError(f"styles must be a list of names, not {shown(self.styles)}.")
        if len(self.styles) > MAX_STYLES:
            raise RequestError(f"styles names {len(self.styles)} styles; at most {MAX_STYLES} can be used.")
        for style in self.styles:
            check_text("a style", style, MAX_PROMPT_CHARACTERS)
        for name in ("width", "height"):
            size = getattr(self, name)
            check_whole(name, size, MIN_SIZE_PIXELS, MAX_SIZE_PIXELS, " pixels")
            if size % SIZE_MULTIPLE_PIXELS:
                near = max(MIN_SIZE_PIXELS, round(size / SIZE_MULTIPLE_PIXELS) * SIZE_MULTIPLE_PIXELS)
                raise RequestError(
                    f"{name} must be a multiple of {SIZE_MULTIPLE_PIXELS} pixels, not {size}; try {near}."
                )
        check_whole("steps", self.steps, 1, MAX_STEPS)
        guidance = check_number("guidance_scale", self.guidance_scale, 0, MAX_GUIDANCE_SCALE)
        for name in ("sampler", "schedule"):
            if not isinstance(getattr(self, name), str):
                raise RequestError(f"{name} must be a name, not {shown(getattr(self, name))}.")
        sampler, schedule = canonical_sampler(self.sampler), canonical_schedule(self.schedule)
        if schedule not in SAMPLERS[sampler].schedules:
            takes = ", ".join(SAMPLERS[sampler].schedules)
            raise RequestError(
                f"The sampler {sampler} does not take the schedule {schedule}; it takes {takes}."
            )
        start, end = (
            check_number(name, getattr(self, name), 0, 1) for name in ("guidance_start", "guidance_end")
        )
        if start >= end:
            raise RequestError(
                f"guidance_start must be below guidance_end, not {start:g} and {end:g}; for no guidance "
                "at all set guidance_scale to 1."
            )
        check_whole("count", self.count, 1, MAX_COUNT)
        if self.batch_size is not None:
            check_whole("batch_size", self.batch_size, 1, MAX_COUNT)
        for name in ("seed", "variation_seed"):
            if getattr(self, name) is not None:
                check_whole(name, getattr(self, name), 0, MAX_SEED)
        check_choice("noise", self.noise, NOISES)
        check_flag("instant", self.instant)
        check_flag("tiling", self.tiling)
        variation = check_number("variation_strength", self.variation_strength, 0, 1)
        counted = "variation_seed" if variation else "seed"
        if self.counted_seed is not None and self.counted_seed + self.count - 1 > MAX_SEED:
            raise RequestError(
                f"{counted} {self.counted_seed} with count {self.count} would pass the largest seed, "
                f"{MAX_SEED}; image i is drawn with {counted} + i."
            )
        self._check_parts()
        object.__setattr__(self, "guidance_scale", guidance)
        object.__setattr__(self, "guidance_start", start)
        object.__setattr__(self, "guidance_end", end)
        object.__setattr__(self, "variation_strength", variation)
        object.__setattr__(self, "sampler", sampler)
        object.__setattr__(self, "schedule", schedule)
        object.__setattr__(self, "styles", tuple(self.styles))
        object.__setattr__(self, "controls", check_controls(self.controls))

    def _check_parts(self) -> None:
        """Whether the picture to start from and the second pass are such, and go with the rest."""
        image, second = self.image, self.second_pass
        for name, kind in PARTS.items():
            part = getattr(self, name)
            if part is not None and not isinstance(part, kind):
                fields = ", ".join(field.name for field in dataclasses.fields(kind))
                raise RequestError(f"{name} must be an object with {fields}, not {shown(part)}.")
        if image is not None:
            image.steps_done(self.steps)
        if second is None:
            return
        second.steps_done(self.steps)
        if max(second.size(self.width, self.height, SIZE_MULTIPLE_PIXELS)) > MAX_SIZE_PIXELS:
            raise RequestError(
                f"A second pass of {second.scale:g} times {self.width}x{self.height} would pass "
                f"{MAX_SIZE_PIXELS} pixels; use a smaller scale."
            )
        if image is not None and image.paints_a_part:
            raise RequestError(
                "A second pass would change what lies outside the mask; paint first, then enlarge the result."
            )

    @classmethod
    def from_options(cls, options: Mapping[str, Any], defaults: object) -> Self:
        """Build a request from what a person gave, the rest from the model's own defaults.

        Options that are None count as not given, and seed -1 as random, the way people write it.
        `defaults` is a mapping or a dataclass such as models.defaults.GenerationDefaults; an instant request
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
        for name in ("seed", "variation_seed"):
            if given.get(name) == -1 and not isinstance(given[name], bool | float):
                del given[name]
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
        unknown = [shown(name) for name in values if name not in fields]
        if unknown:
            raise RequestError(f"Unknown field {unknown[0]} in the request; there is {', '.join(fields)}.")
        missing = [n for n, f in fields.items() if f.default is dataclasses.MISSING and n not in values]
        if missing:
            raise RequestError(f"The request lacks {', '.join(missing)}.")
        parts: dict[str, Any] = {
            name: kind.from_dict(values[name])
            for name, kind in PARTS.items()
            if isinstance(values.get(name), Mapping)
        }
        if "controls" in values:
            parts["controls"] = read_controls(values["controls"])
        return cls(**{**values, **parts})

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
        values = dataclasses.asdict(self)
        return values | {name: list(values[name]) for name in ("styles", "controls")}

    def to_json(self) -> str:
        """The request as one line of JSON."""
        return json.dumps(self.to_dict(), ensure_ascii=False)

    def resolve(self) -> Self:
        """The same request with random seeds in the place of None, so that it can be drawn again."""
        request = self
        for name in ("seed", "variation_seed") if self.variation_strength else ("seed",):
            if getattr(request, name) is None:
                values: dict[str, Any] = {name: secrets.randbelow(MAX_SEED - MAX_COUNT)}
                request = dataclasses.replace(request, **values)
        return request

    def part(self, first: int, count: int) -> Self:
        """The request that draws `count` images of this one from image `first` on; the seed must be known."""
        if self.seed is None:
            raise ValueError("a request with a random seed must be resolved first")
        batch_size = None if count == 1 else self.batch_size
        if self.variation_strength:
            assert self.variation_seed is not None
            variation_seed = self.variation_seed + first
            return dataclasses.replace(
                self, variation_seed=variation_seed, count=count, batch_size=batch_size
            )
        return dataclasses.replace(self, seed=self.seed + first, count=count, batch_size=batch_size)

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

    @property
    def input_names(self) -> tuple[str, ...]:
        """The pictures and masks that it is drawn with, as pipelines.inputs names them."""
        image = () if self.image is None else (self.image.picture, self.image.mask)
        return tuple(filter(None, (*image, *(control.picture for control in self.controls))))

    @property
    def counted_seed(self) -> int | None:
        """The seed that tells the pictures of one request apart."""
        return self.variation_seed if self.variation_strength else self.seed


def drawing_size(picture: tuple[int, int], native: tuple[int, int], multiple: int) -> tuple[int, int]:
    """The size to draw a picture at: its own where the model can, else its shape at the model's own area.

    All are width and height in pixels; the answer is in multiples of `multiple`.
    """
    area, native_area = picture[0] * picture[1], native[0] * native[1]
    scale = 1.0 if native_area / 2 <= area <= 4 * native_area else (native_area / area) ** 0.5
    width, height = (
        min(MAX_SIZE_PIXELS // multiple, max(-(-MIN_SIZE_PIXELS // multiple), round(side * scale / multiple)))
        * multiple
        for side in picture
    )
    return width, height
