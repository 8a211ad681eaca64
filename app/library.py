"""The pictures on disk and the index over them, which they can make anew.

The page writes outputs/<date>/<id>.png, `generate` outputs/<words>.png.
"""

import logging
import sqlite3
import threading
import time
from datetime import datetime
from pathlib import Path

from PIL import Image

from app import text
from app.database import BROWSER, Database, owner_tag
from app.favourites import Favourites
from app.job import Job
from app.picture import INSERT, NOBODY, Picture, PictureRows, engine_of
from app.search import condition
from models.errors import StudioError
from pipelines.compare.axes import axes_to_json
from pipelines.compare.sheet import compose
from pipelines.png import read_png, save_png
from pipelines.result import GenerationResult

logger = logging.getLogger(__name__)

TICK_NS = 2_000_000_000  # the longest that a file system takes to tell two times apart


class Library:
    """Saves pictures and finds them again, each owner's apart.

    What the command line drew is everybody's whose page needs no login, since that is on this machine.
    The files are the truth, and so is the list of favourites beside them; the index follows both.
    """

    def __init__(self, outputs: Path, database: Database) -> None:
        self._outputs = outputs
        self._database = database
        self._favourites = Favourites(outputs / "favourites.txt")
        self._rows = PictureRows(outputs, self._favourites)
        self._looking = threading.Lock()
        self._outputs_time: int | None = None
        self._drawn_by_command: dict[str, int] = {}  # file name: time of its last change

    def save(self, result: GenerationResult, owner: str, job_id: str, cell: int | None = None) -> list[Path]:
        """Write the pictures of a job, settings inside each, and index them; nothing is ever overwritten.

        Those of the owner NOBODY are everybody's, as what the command line drew.
        The pictures of a comparison may have one seed: `cell` tells them apart.
        """
        created, folder = self._today()
        paths, rows = [], []
        number = "" if cell is None else f"{cell + 1}."
        tag = owner_tag(owner) if owner else NOBODY
        try:
            for index, image in enumerate(result.images):
                request = result.pictures[index]
                path = folder / f"{job_id}-{number}{request.counted_seed}.png"
                extra = {"owner": tag, "created": created, **result.drawn_by}
                save_png(
                    image, path, request, model_name=result.model_name, model_id=result.model_id, extra=extra
                )
                paths.append(path)
                rows.append(self._rows.row(path, tag, created, result.model_name, request, result.drawn_by))
        finally:  # what was written before the disk was full is a picture like any other
            self._database.write_all([(INSERT, row) for row in rows])
        return paths

    def save_sheet(self, job: Job) -> Path:
        """Write what is drawn of a comparison as one labelled sheet, its axes inside, and index it."""
        assert job.comparison is not None
        created, folder = self._today()
        pictures = {}
        for place, path in job.cells_drawn.items():
            with Image.open(path) as picture:
                pictures[place] = picture.convert("RGB")
        path = folder / f"{job.id}-sheet.png"
        settings = read_png(next(iter(job.cells_drawn.values())))
        assert settings is not None
        name, request = settings.model_name or "", job.request.for_image(0)
        drawn_by = engine_of(settings.extra)
        save_png(
            compose(pictures, job.comparison.axes, text.COMPARED),
            path,
            request,
            model_name=name,
            model_id=settings.model_id or "",
            extra={
                "owner": owner_tag(job.owner),
                "created": created,
                "axes": axes_to_json(job.comparison.axes),
                **drawn_by,
            },
        )
        self._database.write(
            INSERT, self._rows.row(path, owner_tag(job.owner), created, name, request, drawn_by)
        )
        return path

    def _today(self) -> tuple[float, Path]:
        """The time, and the folder of its date."""
        created = time.time()
        folder = self._outputs / datetime.fromtimestamp(created).strftime("%Y-%m-%d")
        folder.mkdir(parents=True, exist_ok=True)
        return created, folder

    def newest(self, owner: str, limit: int = 50) -> list[Picture]:
        """The pictures of one owner, newest first; files deleted by hand are left out."""
        self._find_new()
        found: list[Picture] = []
        read, more = 0, True
        while len(found) < limit and more:
            rows = self._database.read(
                "SELECT * FROM pictures WHERE owner IN (?, ?) ORDER BY created DESC, id LIMIT ? OFFSET ?",
                (*_owners(owner), limit, read),
            )
            found += self._pictures(rows)
            read, more = read + limit, len(rows) == limit
        return found[:limit]

    def search(
        self, owner: str, words: str = "", *, favourites: bool = False, page: int = 0, limit: int = 48
    ) -> tuple[list[Picture], int]:
        """A page of an owner's pictures that `words` describe (app/search.py), newest first; how many do."""
        self._find_new()
        where, values = condition(words, favourites)
        wanted = f"FROM pictures WHERE owner IN (?, ?) AND {where}"
        while True:
            rows = self._database.read(
                f"SELECT * {wanted} ORDER BY created DESC, id LIMIT ? OFFSET ?",
                (*_owners(owner), *values, limit, page * limit),
            )
            gone = [row["path"] for row in rows if not (self._outputs / row["path"]).is_file()]
            if not gone:
                break
            try:  # deleted by hand: a page would be short of them, and the number wrong
                self._database.write_all([("DELETE FROM pictures WHERE path = ?", (path,)) for path in gone])
            except StudioError:  # a full disk: better short of some than not shown
                break
        ((total,),) = self._database.read(f"SELECT count(*) {wanted}", (*_owners(owner), *values))
        return self._pictures(rows), total

    def set_favourite(self, picture: Picture, favourite: bool) -> None:
        """Keep a picture as a favourite, or no longer; also through a rebuild of the index."""
        self._favourites.put(picture.id, favourite)
        self._database.write("UPDATE pictures SET favourite = ? WHERE id = ?", (favourite, picture.id))

    def delete(self, picture: Picture) -> None:
        """Delete a picture for good: its file, then its row; StudioError if the file cannot be deleted."""
        # A row without its file goes at the next look, but a file without its row would come back.
        try:
            picture.path.unlink(missing_ok=True)
        except OSError as error:
            raise StudioError(f"{picture.path} cannot be deleted: {error.strerror or error}.") from None
        self._database.write("DELETE FROM pictures WHERE id = ?", (picture.id,))
        self._favourites.put(picture.id, False)

    def find(self, picture_id: str, owner: str) -> Picture | None:
        """One picture of this owner with its settings, or None."""
        rows = self._database.read(
            "SELECT * FROM pictures WHERE owner IN (?, ?) AND id = ?", (*_owners(owner), picture_id)
        )
        return self._rows.picture(rows[0]) if rows else None

    def siblings(self, picture: Picture, owner: str) -> list[Picture]:
        """The pictures that one job drew, this one among them, in the order of their seeds."""
        job_id = picture.id.rpartition("-")[0]
        rows = self._database.read(
            "SELECT * FROM pictures WHERE owner = ? AND id LIKE ? || '-%'", (owner_tag(owner), job_id)
        )
        found = sorted(self._pictures(rows), key=lambda sibling: sibling.request.counted_seed or 0)
        # The command line names its files by their words: another prompt may begin with the same ones.
        if picture.id in [sibling.id for sibling in found]:
            return found
        own = self.find(picture.id, owner)
        return [] if own is None else [own]

    def rebuild(self) -> int:
        """Make the index anew from the PNGs alone; how many it holds then. Foreign files are skipped."""
        files = [*sorted(self._outputs.glob("*.png")), *sorted(self._outputs.glob("[0-9]*-*-*/*.png"))]
        rows = [row for path in files if (row := self._rows.read(path)) is not None]
        self._database.write_all([("DELETE FROM pictures", ()), *((INSERT, row) for row in rows)])
        return len(rows)

    def _find_new(self) -> None:
        """Index what the command line drew since the last look."""
        with self._looking:
            # It changes with every file that appears.
            now = self._outputs.stat().st_mtime_ns if self._outputs.exists() else None
            if now == self._outputs_time:
                return
            for path in sorted(self._outputs.glob("*.png")):
                try:
                    changed = path.stat().st_mtime_ns
                    row = None if self._drawn_by_command.get(path.name) == changed else self._rows.read(path)
                except OSError:  # deleted at this moment
                    continue
                self._drawn_by_command[path.name] = changed
                if row is not None:
                    # A copy of a picture that is known by its name stays out.
                    forget = ("DELETE FROM pictures WHERE path = ?", (row[0],))
                    try:
                        self._database.write_all([forget, (INSERT.replace("REPLACE", "IGNORE"), row)])
                    except StudioError as error:  # a full disk: what is known is shown all the same
                        logger.warning("%s is left out: %s", path, error)
                        self._drawn_by_command.pop(path.name)
                        return
            # What comes within the same tick does not change the time once more.
            self._outputs_time = now if now and time.time_ns() - now > TICK_NS else None

    def _pictures(self, rows: list[sqlite3.Row]) -> list[Picture]:
        """The pictures of these rows that are still there."""
        found = [self._rows.picture(row) for row in rows]
        return [picture for picture in found if picture is not None and picture.path.is_file()]


def _owners(owner: str) -> tuple[str, str]:
    """Whose pictures an owner sees: their own, and on a page without logins the command line's."""
    tag = owner_tag(owner)
    return tag, NOBODY if owner.startswith(BROWSER) else tag
