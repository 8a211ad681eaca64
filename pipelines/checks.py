"""Checks of what a request is made of, with the sentences that people are told."""

import json
import math
from collections.abc import Sequence

from models.errors import RequestError


def check_text(name: str, value: object, most_characters: int) -> None:
    """RequestError where a value is not text that can be read as a prompt."""
    if not isinstance(value, str):
        raise RequestError(f"{name} must be text, not {shown(value)}.")
    if len(value) > most_characters:
        raise RequestError(
            f"{name} has {len(value)} characters; at most {most_characters} can be read. Shorten it."
        )
    if "\0" in value or any("\ud800" <= character <= "\udfff" for character in value):
        raise RequestError(f"{name} holds characters that are not text (a null or half a surrogate pair).")


def check_whole(name: str, value: object, low: int, high: int, unit: str = "") -> None:
    """RequestError where a value is no whole number from `low` to `high`."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise RequestError(f"{name} must be a whole number, not {shown(value)}.")
    if not low <= value <= high:
        raise RequestError(f"{name} must be from {low} to {high}{unit}, not {shown(value)}.")


def shown(value: object) -> str:
    """A value for a message: short, and safe for numbers too long for Python to write down."""
    if isinstance(value, int) and value.bit_length() > 200:
        return "a number of more than 60 digits"
    if isinstance(value, float) and not math.isfinite(value):
        return {"nan": "NaN (not a number)", "inf": "infinity", "-inf": "minus infinity"}[str(value)]
    if isinstance(value, str | int | float | bool | None):
        text = json.dumps(value, ensure_ascii=True)
        return text if len(text) <= 60 else f"{text[:57]}..."
    return f"a {type(value).__name__}"


def check_number(name: str, value: object, low: float, high: float) -> float:
    """The value as a float; RequestError where it is no number from `low` to `high`."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise RequestError(f"{name} must be a number, not {shown(value)}.")
    if not low <= value <= high:  # NaN fails every comparison
        raise RequestError(f"{name} must be a number from {low:g} to {high:g}, not {shown(value)}.")
    return float(value)


def check_flag(name: str, value: object) -> None:
    """RequestError where a value is neither true nor false."""
    if not isinstance(value, bool):
        raise RequestError(f"{name} must be true or false, not {shown(value)}.")


def check_choice(name: str, value: object, choices: Sequence[str]) -> None:
    """RequestError where a value is not one of these words."""
    if value not in choices:
        *most, last = (f'"{choice}"' for choice in choices)
        raise RequestError(f"{name} must be {', '.join(most)} or {last}, not {shown(value)}.")
