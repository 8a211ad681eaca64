"""What a request may hold of pictures that guide a drawing by a ControlNet."""

import re
from dataclasses import dataclass
from typing import Literal, get_args

from models.errors import RequestError
from pipelines.checks import check_choice, check_number, check_text, shown
from pipelines.request_parts import Part

Preprocessor = Literal["none", "canny"]
PREPROCESSORS: tuple[str, ...] = get_args(Preprocessor)
MAX_CONTROLS = 4
MAX_CONTROL_SCALE = 2.0
MAX_CONTROLNET_CHARACTERS = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class ControlInput(Part):
    """A picture that a ControlNet is shown, and how strongly and when the net guides the drawing.

    `controlnet` is its name in the folder of ControlNets, `picture` that of one in pipelines.inputs, which
    `preprocessor` turns into what the net was trained on; "none" where it is that already. `scale` multiplies
    what the net adds. It acts in the steps that lie from `start` to `end`, shares of the schedule.
    """

    controlnet: str
    picture: str
    preprocessor: Preprocessor = "none"
    scale: float = 1.0
    start: float = 0.0
    end: float = 1.0

    def __post_init__(self) -> None:
        check_text("controlnet", self.controlnet, MAX_CONTROLNET_CHARACTERS)
        if not isinstance(self.picture, str) or re.fullmatch("[0-9a-f]{64}", self.picture) is None:
            raise RequestError(
                f"The picture for a ControlNet must be the sha256 of a stored one, not {shown(self.picture)}."
            )
        check_choice("preprocessor", self.preprocessor, PREPROCESSORS)
        for name, most in (("scale", MAX_CONTROL_SCALE), ("start", 1), ("end", 1)):
            value = check_number(f"controls.{name}", getattr(self, name), 0, most)
            object.__setattr__(self, name, value)
        if self.start >= self.end:
            raise RequestError(
                f"controls.start must be below controls.end, not {self.start:g} and {self.end:g}; to draw "
                "without the ControlNet leave it out."
            )


def read_controls(values: object) -> object:
    """A list of controls of their JSON objects; whatever else is left as it is, for `check_controls`."""
    if not isinstance(values, list | tuple):
        return values
    return tuple(ControlInput.from_dict(one) if isinstance(one, dict) else one for one in values)


def check_controls(controls: object) -> tuple[ControlInput, ...]:
    """The controls of a request; RequestError unless they are such, and not too many."""
    if not isinstance(controls, list | tuple) or not all(isinstance(one, ControlInput) for one in controls):
        raise RequestError(
            "controls must be a list of objects with controlnet, picture, preprocessor, scale, start and "
            f"end, not {shown(controls)}."
        )
    if len(controls) > MAX_CONTROLS:
        raise RequestError(f"controls names {len(controls)} ControlNets; at most {MAX_CONTROLS} can guide.")
    return tuple(controls)
