"""What a reader found in one program's texts."""

import re
from dataclasses import dataclass, field
from typing import Any

from pipelines.metadata.names import sampler_options


@dataclass(slots=True)
class Found:
    """Options for GenerationRequest.from_options, unchecked; `left` has no place in them, in words."""

    program: str
    options: dict[str, Any] = field(default_factory=dict)
    model_name: str | None = None
    left: dict[str, str] = field(default_factory=dict)

    def take_sampler(self, sampler: object, schedule: object = "Automatic") -> None:
        """Take a sampler and its schedule as far as there is a like of them here."""
        options, left = sampler_options(sampler, schedule)
        self.options |= options
        self.left |= left

    def leave(self, name: str, value: object) -> None:
        """Say that a setting is not used, if it says anything."""
        if value not in (None, "", [], {}, "None", False):
            words = ", ".join(map(str, value[:20])) if isinstance(value, list) else str(value)
            self.left[name[:60]] = words[:300]


def whole(value: object) -> object:
    """A whole number, also where a program wrote it as text or with a fraction of zero; else the value."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, str) and re.fullmatch(r"[0-9]{1,20}", value.strip()):
        return int(value)
    return value


def number(value: object) -> object:
    """A number, also where a program wrote it as text; else the value."""
    if isinstance(value, str) and re.fullmatch(r"[0-9]{1,20}(\.[0-9]{1,20})?", value.strip()):
        return float(value)
    return value
