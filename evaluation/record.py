"""What was measured of a model, kept in its folder: metrics.json, and the lines of its card that say it."""

import json
from pathlib import Path
from typing import Any

from models.defaults import METRICS
from models.errors import ModelError
from models.weights import read_json
from models.writing import write_bytes, write_json

OTHERS = "other_features"  # under a part: its results by other feature networks, {name: result}


def record(
    folder: Path, part: str, result: dict[str, Any], lines: list[str], other: str | None = None
) -> None:
    """Write `result` under `part` ("autoencoder", "diffusion") into a model folder's metrics.json.

    What was measured by an `other` feature network than the shipped one stands apart from it, under that
    network's name. Where the folder's README.md has a place for the part, or for "part other", between two
    comments, `lines` stand there, those of other parts kept.

    Raises: ModelError where the folder cannot be written.
    """
    path, card = folder / METRICS, folder / "README.md"
    try:
        known = read_json(path) if path.exists() else {}
        entry = known.get(part, {})
        others = entry.get(OTHERS, {})
        if other is not None:
            result = {**entry, OTHERS: {**others, other: result}}
        elif others:
            result = {**result, OTHERS: others}
        write_json(path, {**known, part: result})
        fill(card, part if other is None else f"{part} {other}", lines)
    except OSError as error:
        raise ModelError(f"{folder} cannot be written ({error.strerror}); use --json to keep it") from error


def fill(page: Path, part: str, lines: list[str]) -> None:
    """Put `lines` into a Markdown page where it has a place for `part`, between two comments, if it has."""
    if not page.exists():
        return
    text = page.read_text(encoding="utf-8")
    begin, end = f"<!-- measured {part} -->", f"<!-- /measured {part} -->"
    if begin in text and end in text:
        before, after = text.split(begin)[0], text.split(end)[1]
        write_bytes(page, "\n".join([f"{before}{begin}", *lines, f"{end}{after}"]).encode())


def show(result: dict[str, Any], lines: list[str], as_json: bool) -> None:
    """Print a result for programs or for people."""
    print(json.dumps(result) if as_json else "\n".join(lines))
