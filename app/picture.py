"""What is known of a picture: by the PNG, and by the row of the index that is made of it."""

import logging
import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from app.favourites import Favourites
from app.search import folded
from models.errors import RequestError
from pipelines.png import read_png
from pipelines.request import GenerationRequest

logger = logging.getLogger(__name__)

NOBODY = ""  # the owner of pictures that the command line drew
MAX_ENGINE_CHARACTERS = 200
INSERT = "INSERT OR REPLACE INTO pictures VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """One picture; `request` draws exactly it (its own seed, count 1), `created` is Unix seconds.

    `engine` drew it; the `note` says why another one did than was chosen.
    """

    id: str
    path: Path
    created: float
    model: str
    request: GenerationRequest
    favourite: bool
    engine: str = ""
    note: str = ""


class PictureRows:
    """Makes rows of the index, with paths below `outputs`, and pictures of rows."""

    def __init__(self, outputs: Path, favourites: Favourites) -> None:
        self._outputs, self._favourites = outputs, favourites

    def row(
        self,
        path: Path,
        owner: str,
        created: float,
        model: str,
        request: GenerationRequest,
        drawn_by: Mapping[str, str],
    ) -> tuple[Any, ...]:
        """The row of a picture; `owner` is a tag or NOBODY, `created` in Unix seconds."""
        return (
            path.relative_to(self._outputs).as_posix(),  # so that an outputs folder may be moved
            path.stem,
            owner,
            created,
            model,
            request.to_json(),
            folded(request.prompt),
            folded(request.negative_prompt),
            request.seed,
            request.sampler,
            request.schedule,
            request.steps,
            request.guidance_scale,
            request.width,
            request.height,
            path.stem in self._favourites,
            drawn_by.get("engine", ""),
            drawn_by.get("note", ""),
        )

    def read(self, path: Path) -> tuple[Any, ...] | None:
        """The row that a PNG gives about itself: one written by Library.save the same row again."""
        settings = read_png(path)
        if settings is None or settings.request is None:
            return None
        owner, created = settings.extra.get("owner"), settings.extra.get("created")
        return self.row(
            path,
            owner if isinstance(owner, str) else NOBODY,
            created if isinstance(created, float) else path.stat().st_mtime,
            settings.model_name or "",
            settings.request,
            engine_of(settings.extra),
        )

    def picture(self, row: sqlite3.Row) -> Picture | None:
        """The picture of a row; None where its request is no longer, or not yet, one that can be drawn."""
        try:
            request = GenerationRequest.from_json(row["request"])
        except RequestError as error:  # what an older or newer version could draw
            logger.warning("%s is left out: %s", row["path"], error)
            return None
        return Picture(
            id=row["id"],
            path=self._outputs / row["path"],
            created=row["created"],
            model=row["model"],
            request=request,
            favourite=bool(row["favourite"]),
            engine=row["engine"],
            note=row["note"],
        )


def engine_of(extra: Mapping[str, Any]) -> dict[str, str]:
    """What a file, which anybody may have written, says of its engine: `GenerationResult.drawn_by`."""
    said = {name: extra.get(name) for name in ("engine", "note")}
    return {name: value[:MAX_ENGINE_CHARACTERS] for name, value in said.items() if isinstance(value, str)}
