"""Weights of words: `(x:1.2)`, `(x)`, `[x]`, escapes and BREAK, read as AUTOMATIC1111 reads them."""

import math
import re

ROUND, SQUARE = 1.1, 1 / 1.1  # what a pair of brackets without a number is worth
BREAK = ("BREAK", -1.0)  # the part that ends a chunk; no other part has both its text and its weight
_TOKEN = re.compile(
    r"\\(?P<escaped>[()\[\]\\])"
    r"|(?P<backslash>\\)"
    r"|:\s*(?P<weight>[+-]?[.\d]+)\s*\)"
    r"|(?P<bracket>[()\[\]])"
    r"|(?P<text>[^\\()\[\]:]+|:)"
)
_BREAK = re.compile(r"\s*\bBREAK\b\s*")


def parse_attention(text: str) -> list[tuple[str, float]]:
    """The parts of a prompt with the weight of each; any text can be read.

    A bracket that is never closed reaches to the end, one that was never opened is a character, a number
    replaces the 1.1 of its own round brackets, and a lone backslash is dropped. A BREAK in brackets has their
    weight too, and is then a word like any other.
    """
    parts: list[tuple[str, float]] = []
    opened: dict[str, list[int]] = {"(": [], "[": []}  # how many parts there were before each open bracket

    def multiply(first: int, factor: float) -> None:
        parts[first:] = [(words, weight * factor) for words, weight in parts[first:]]

    for token in _TOKEN.finditer(text):
        kind, value = token.lastgroup, token[0]
        if kind == "bracket" and value in opened:
            opened[value].append(len(parts))
        elif kind == "weight" and opened["("] and (number := _number(token["weight"])) is not None:
            multiply(opened["("].pop(), number)
        elif value == ")" and opened["("]:
            multiply(opened["("].pop(), ROUND)
        elif value == "]" and opened["["]:
            multiply(opened["["].pop(), SQUARE)
        elif kind == "escaped":
            parts.append((token["escaped"], 1.0))
        elif kind != "backslash":
            first, *others = _BREAK.split(value)
            parts.append((first, 1.0))
            for words in others:
                parts += [BREAK, (words, 1.0)]
    for bracket, factor in (("(", ROUND), ("[", SQUARE)):
        for first in opened[bracket]:
            multiply(first, factor)
    return _join_equal(parts) or [("", 1.0)]


def _number(digits: str) -> float | None:
    try:
        number = float(digits)
    except ValueError:  # such as 1..2
        return None
    return number if math.isfinite(number) else None


def _join_equal(parts: list[tuple[str, float]]) -> list[tuple[str, float]]:
    """Neighbours of equal weight as one part."""
    joined: list[tuple[list[str], float]] = []
    for words, weight in parts:
        if joined and joined[-1][1] == weight:
            joined[-1][0].append(words)
        else:
            joined.append(([words], weight))
    return [("".join(words), weight) for words, weight in joined]
