"""What a dataset says of one picture, and of one file that is none."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif"})


@dataclass(frozen=True, slots=True)
class Entry:
    """One picture: where it lies, its captions, the canonical one first, its split ("" = any) and label."""

    file: str  # a path, or the path or URL of the shard that holds it
    captions: tuple[str, ...] = ("",)
    split: str = ""
    label: str = ""
    stamp: str = ""  # changes when the file does
    member: str = ""  # its name in the shard
    offset: int = 0  # bytes into the shard
    size: int = 0  # bytes

    @property
    def name(self) -> str:
        """What to call it before a person."""
        return f"{self.file}/{self.member}" if self.member else self.file


@dataclass(frozen=True, slots=True)
class Skipped:
    """A file that will not be used, and why."""

    name: str
    reason: str


def captions_in(row: Mapping[str, Any]) -> tuple[str, ...]:
    """The captions that metadata of one picture gives under the names in use; none, one or a list."""
    said: Any = next((row[key] for key in ("captions", "text", "caption") if row.get(key)), [])
    return tuple(valid(str(one)) for one in (said if isinstance(said, list) else [said]))


def label_in(row: Mapping[str, Any], otherwise: str) -> str:
    """The label that metadata of one picture gives, else another."""
    label = row.get("label")
    return valid(str(otherwise if label is None or label == "" else label))


def lines_in(text: str) -> tuple[str, ...]:
    """One caption a line."""
    return tuple(valid(line.strip()) for line in text.splitlines() if line.strip())


def valid(text: str) -> str:
    """Text without the halves of characters that JSON lets through and UTF-8 does not."""
    return text.encode("utf-8", "replace").decode()
