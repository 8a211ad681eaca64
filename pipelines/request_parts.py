"""What a request may hold beside words and numbers: a picture to start from, and a second, larger pass."""

import dataclasses
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Self, get_args

from models.errors import RequestError
from pipelines.checks import check_choice, check_flag, check_number, check_whole, shown

Fill = Literal["original", "fill", "latent noise", "latent nothing"]
Upscaler = Literal["Latent", "Lanczos"]
FILLS: tuple[str, ...] = get_args(Fill)
UPSCALERS: tuple[str, ...] = get_args(Upscaler)
MAX_EXTEND_PIXELS, MAX_BLUR_PIXELS, MAX_PADDING_PIXELS = 1024, 64, 256
MAX_SCALE = 4.0
MAX_SECOND_STEPS = 150


class Part:
    """The way of a part from its JSON object and to one, which `dataclasses.asdict` makes."""

    __slots__ = ()

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Build the part from its fields by name; RequestError on an unknown or a missing one."""
        fields = {field.name: field for field in dataclasses.fields(cls)}  # type: ignore[arg-type]
        unknown = [shown(name) for name in values if name not in fields]
        if unknown:
            raise RequestError(f"Unknown field {unknown[0]} in {cls.__name__}; there is {', '.join(fields)}.")
        missing = [n for n, f in fields.items() if f.default is dataclasses.MISSING and n not in values]
        if missing:
            raise RequestError(f"{cls.__name__} lacks {', '.join(missing)}.")
        return cls(**values)


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageInput(Part):
    """The picture that a request starts from, and which part of it is painted anew.

    `picture` and `mask` are names of pipelines.inputs. Of a mask white is painted, and what is black stays
    to the bit; its edge fades over `mask_blur` pixels inside the white. `only_masked` draws the masked part
    alone, with `mask_padding` pixels around it, at the size of the request. `fill` is what the masked part
    starts from. `extend` adds pixels on the left, top, right and bottom, which are painted.
    """

    picture: str
    strength: float = 0.75
    mask: str | None = None
    mask_blur: int = 4
    only_masked: bool = False
    mask_padding: int = 32
    fill: Fill = "original"
    extend: tuple[int, int, int, int] = (0, 0, 0, 0)

    def __post_init__(self) -> None:
        for name in ("picture", "mask"):
            value = getattr(self, name)
            if name == "mask" and value is None:
                continue
            if not isinstance(value, str) or re.fullmatch("[0-9a-f]{64}", value) is None:
                raise RequestError(f"{name} must be the sha256 of a stored picture, not {shown(value)}.")
        strength = check_number("strength", self.strength, 0, 1)
        check_whole("mask_blur", self.mask_blur, 0, MAX_BLUR_PIXELS, " pixels")
        check_whole("mask_padding", self.mask_padding, 0, MAX_PADDING_PIXELS, " pixels")
        check_flag("only_masked", self.only_masked)
        check_choice("fill", self.fill, FILLS)
        sides: Any = self.extend
        if not isinstance(sides, Sequence) or isinstance(sides, str) or len(sides) != 4:
            raise RequestError("extend must be four numbers of pixels: left, top, right and bottom.")
        for pixels in sides:
            check_whole("extend", pixels, 0, MAX_EXTEND_PIXELS, " pixels")
        object.__setattr__(self, "strength", strength)
        object.__setattr__(self, "extend", tuple(sides))

    @property
    def paints_a_part(self) -> bool:
        """Whether some of the picture is to stay as it is."""
        return self.mask is not None or any(self.extend)

    def steps_done(self, steps: int) -> int:
        """How many of `steps` are done, the rest being skipped; RequestError where that is none."""
        return _steps_done(self.strength, steps)


@dataclass(frozen=True, slots=True, kw_only=True)
class SecondPass(Part):
    """The finished picture drawn once more, `scale` times as large a side: details where there were none.

    `steps` None means as many as in the first pass, of which the share `strength` is done. Latent enlarges
    the latents, bilinear; Lanczos the decoded picture.
    """

    scale: float = 2.0
    strength: float = 0.6
    steps: int | None = None
    upscaler: Upscaler = "Lanczos"

    def __post_init__(self) -> None:
        for name, low, high in (("scale", 1, MAX_SCALE), ("strength", 0, 1)):
            value = check_number(f"second_pass.{name}", getattr(self, name), low, high)
            object.__setattr__(self, name, value)
        if self.steps is not None:
            check_whole("second_pass.steps", self.steps, 1, MAX_SECOND_STEPS)
        check_choice("second_pass.upscaler", self.upscaler, UPSCALERS)

    def steps_asked(self, steps: int) -> int:
        """The steps of this pass where the first one has `steps`."""
        return steps if self.steps is None else self.steps

    def steps_done(self, steps: int) -> int:
        """How many steps are done where the first pass has `steps`; RequestError where that is none."""
        return _steps_done(self.strength, self.steps_asked(steps))

    def size(self, width: int, height: int, multiple: int) -> tuple[int, int]:
        """Width and height of this pass in pixels, multiples of `multiple`."""
        wide, high = (round(side * self.scale / multiple) * multiple for side in (width, height))
        return wide, high


def _steps_done(strength: float, steps: int) -> int:
    done = round(strength * steps)
    if done < 1:
        raise RequestError(
            f"strength {strength:g} of {steps} steps is no step at all; use more of either, at least a "
            f"strength of {0.51 / steps:.2g}."
        )
    return done
