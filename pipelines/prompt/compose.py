"""Several prompts for one picture: `a AND b :0.5`, read as AUTOMATIC1111 reads it."""

import math
import re

_AND = re.compile(r"\bAND\b")
_WEIGHT = re.compile(r"[-+]?(\d+\.?|\d*\.\d+)")


def split_composition(prompt: str) -> list[tuple[str, float]]:
    """The prompts that AND joins, each with its weight, the number behind its last colon.

    A prompt alone may have a weight too. White space behind a prompt is dropped. Liu et al. 2206.01714.
    """
    return [_weighted(part) for part in _AND.split(prompt)]


def _weighted(part: str) -> tuple[str, float]:
    words, colon, number = part.rpartition(":")
    if colon and _WEIGHT.fullmatch(number.strip()) and math.isfinite(weight := float(number)):
        return words.rstrip(), weight
    return part.rstrip(), 1.0
