"""The starter dataset as evaluation reads it: single things on white, with their concept, style and split."""

import json
from dataclasses import dataclass
from pathlib import Path

from evaluation.retrieval import Labels
from models.errors import DataError


@dataclass(frozen=True, slots=True)
class Thing:
    """One real picture of one thing on white."""

    file: Path
    caption: str
    concept: str
    style: str
    split: str


def read_things(folder: Path) -> list[Thing]:
    """All single things on white of a dataset that `data starter` built.

    Raises: DataError when the folder is not such a dataset, or has no held-out pairs to compare with.
    """
    metadata = folder / "metadata.jsonl"
    try:
        rows = [json.loads(line) for line in metadata.read_text(encoding="utf-8").splitlines()]
        things = [
            Thing(folder / row["file_name"], row["text"], row["concepts"][0], row["style"], row["split"])
            for row in rows
            if len(row["concepts"]) == 1 and row["background"] == "white"
        ]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"{folder} is no starter dataset; build one: `python launch.py data starter --output {folder}`"
        ) from error
    for split in ("train", "held-out pair"):
        if split not in {thing.split for thing in things}:
            raise DataError(f'{metadata} has no picture of the split "{split}"; build the dataset anew')
    return things


def labels(things: list[Thing]) -> Labels:
    """What the pictures show."""
    return Labels([thing.concept for thing in things], [thing.style for thing in things])
