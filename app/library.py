"""The pictures on disk, outputs/<date>/<id>.png, and the index over them, which they can make anew."""

import sqlite3
import time
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from app.database import Database, owner_tag
from pipelines.png import read_png, save_png
from pipelines.request import GenerationRequest, GenerationResult

NOBODY = ""  # the owner of pictures that the command line drew
INSERT = (
    "INSERT OR REPLACE INTO pictures (path, id, owner, created, model, request) VALUES (?, ?, ?, ?, ?, ?)"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """One picture; `request` draws exactly it (its own seed, count 1), `created` is Unix seconds."""

    id: str
    path: Path
    created: float
    model: str
    request: GenerationRequest


class Library:
    """Saves pictures and finds them again, each owner's apart."""

    def __init__(self, outputs: Path, database: Database) -> None:
        self._outputs = outputs
        self._database = database

    def save(self, result: GenerationResult, owner: str, job_id: str) -> list[Path]:
        """Write the pictures of a job, settings inside each, and index them; nothing is ever overwritten."""
        created = time.time()
        folder = self._outputs / datetime.fromtimestamp(created).strftime("%Y-%m-%d")
        folder.mkdir(parents=True, exist_ok=True)
        paths, rows = [], []
        for index, image in enumerate(result.images):
            request = result.request.for_image(index)
            path = folder / f"{job_id}-{request.seed}.png"
            extra = {"owner": owner_tag(owner), "created": created}
            save_png(
                image, path, request, model_name=result.model_name, model_id=result.model_id, extra=extra
            )
            paths.append(path)
            rows.append(self._row(path, owner_tag(owner), created, result.model_name, request))
        self._database.write_all([(INSERT, row) for row in rows])
        return paths

    def newest(self, owner: str, limit: int = 50) -> list[Picture]:
        """The pictures of one owner, newest first; files deleted by hand are left out."""
        rows = self._database.read(
            "SELECT * FROM pictures WHERE owner = ? ORDER BY created DESC, id LIMIT ?",
            (owner_tag(owner), limit),
        )
        return [picture for row in rows if (picture := self._picture(row)).path.is_file()]

    def find(self, picture_id: str, owner: str) -> Picture | None:
        """One picture of this owner with its settings, or None."""
        rows = self._database.read(
            "SELECT * FROM pictures WHERE owner = ? AND id = ?", (owner_tag(owner), picture_id)
        )
        return self._picture(rows[0]) if rows else None

    def siblings(self, picture: Picture, owner: str) -> list[Picture]:
        """The pictures that one job drew, this one among them, in the order of their seeds."""
        job_id = picture.id.rpartition("-")[0]
        rows = self._database.read(
            "SELECT * FROM pictures WHERE owner = ? AND id LIKE ? || '-%'", (owner_tag(owner), job_id)
        )
        found = [sibling for row in rows if (sibling := self._picture(row)).path.is_file()]
        return sorted(found, key=lambda sibling: sibling.request.seed or 0)

    def rebuild(self) -> int:
        """Make the index anew from the PNGs alone; how many it holds then. Foreign files are skipped."""
        found = (self._read(path) for path in sorted(self._outputs.glob("[0-9]*-*-*/*.png")))
        rows = [row for row in found if row is not None]
        self._database.write_all([("DELETE FROM pictures", ()), *((INSERT, row) for row in rows)])
        return len(rows)

    def _read(self, path: Path) -> tuple[Any, ...] | None:
        """The row that a PNG gives about itself: one written by `save` the same row again."""
        settings = read_png(path)
        if settings is None or settings.request is None:
            return None
        owner, created = settings.extra.get("owner"), settings.extra.get("created")
        return self._row(
            path,
            owner if isinstance(owner, str) else NOBODY,
            created if isinstance(created, float) else path.stat().st_mtime,
            settings.model_name or "",
            settings.request,
        )

    def _row(
        self, path: Path, owner: str, created: float, model: str, request: GenerationRequest
    ) -> tuple[Any, ...]:
        # Relative, so that an outputs folder may be moved.
        return path.relative_to(self._outputs).as_posix(), path.stem, owner, created, model, request.to_json()

    def _picture(self, row: sqlite3.Row) -> Picture:
        return Picture(
            id=row["id"],
            path=self._outputs / row["path"],
            created=row["created"],
            model=row["model"],
            request=GenerationRequest.from_json(row["request"]),
        )
