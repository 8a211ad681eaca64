"""`{a|b}` and `__name__`: one of several words, drawn for each picture from its own seed."""

import random
import re
from pathlib import Path

from models.errors import RequestError
from models.names import file_in

MAX_FILE_BYTES = 4_000_000
MAX_ROUNDS = 20  # how deep wildcards may name wildcards: a file that names itself must come to an end
_WILDCARD = re.compile(r"__(?P<name>\w(?:[\w /-]*?\w)?)__")


class Wildcards:
    """Text files of a folder, a choice a line; `__birds__` is birds.txt, `__birds/small__` one folder deeper.

    Empty lines and those that begin with # are no choices. Each file is read once; without a folder there
    are none.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder
        self._read: dict[str, list[str]] = {}

    def choices(self, name: str) -> list[str]:
        """What a wildcard may become; nothing where there is no such file."""
        if name not in self._read:
            self._read[name] = [] if self._folder is None else _lines(self._folder, name)
        return self._read[name]

    def file(self, name: str) -> Path | None:
        """Where the choices of a wildcard are looked for."""
        return None if self._folder is None else self._folder / f"{name}.txt"

    def unknown(self, text: str) -> list[str]:
        """The wildcards in a text that have no file, by name; they are read as the words they are."""
        names = dict.fromkeys(found["name"] for found in _WILDCARD.finditer(text))
        return [name for name in names if not self.choices(name)]


def _lines(folder: Path, name: str) -> list[str]:
    try:
        file = file_in(folder, f"{name}.txt")
        if file.stat().st_size > MAX_FILE_BYTES:
            return []
        lines = file.read_text(encoding="utf-8-sig", errors="replace").split("\n")
    except (OSError, RequestError):
        return []
    return [line.strip() for line in lines if line.strip() and not line.strip().startswith("#")]


def expand_wildcards(text: str, generator: random.Random, wildcards: Wildcards, max_characters: int) -> str:
    """Choose in every `{a|b}` and for every `__name__`, until nothing is left to choose.

    Braces without a bar and names without a file stay as they are. It ends early where the text has more
    than `max_characters`.
    """

    def one_of(found: re.Match[str]) -> str:
        lines = wildcards.choices(found["name"])
        return _draw(lines, generator) if lines else found[0]

    for _ in range(MAX_ROUNDS):
        before = text
        text = _WILDCARD.sub(one_of, _choose(text, generator))
        if text == before or len(text) > max_characters:
            break
    return text


def _draw(options: list[str], generator: random.Random) -> str:
    # Of all that Python draws, random() alone is promised to stay the same in every version.
    return options[int(generator.random() * len(options))]


def _choose(text: str, generator: random.Random) -> str:
    """Choose in every `{a|b}`, the innermost first; the bar of [a|b] is its own, and \\{ is a character."""
    opened: list[tuple[str, list[str]]] = []  # brackets that wait for their end, with the options so far
    options = [""]
    for piece in re.findall(r"\\.|[^\\{}\[\]|]+|.", text, re.DOTALL):
        inside = opened[-1][0] if opened else ""
        if piece in ("{", "["):
            opened.append((piece, options))
            options = [""]
        elif piece == "|" and inside == "{":
            options.append("")
        elif piece == "}" and any(bracket == "{" for bracket, _ in opened):
            bracket, outer = opened.pop()
            while bracket == "[":  # never closed
                outer[-1] += "[" + options[0]
                options = outer
                bracket, outer = opened.pop()
            outer[-1] += _draw(options, generator) if len(options) > 1 else "{" + options[0] + "}"
            options = outer
        elif piece == "]" and inside == "[":
            _, outer = opened.pop()
            outer[-1] += "[" + options[0] + "]"
            options = outer
        else:
            options[-1] += piece
    for bracket, outer in reversed(opened):
        outer[-1] += bracket + "|".join(options)
        options = outer
    return options[0]
