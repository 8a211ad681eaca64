"""What a dataset holds, on disk: every usable picture with its place and captions, every other file with why.

An SQLite file, written once and then only read, row by row, so that the memory of a training does not grow
with its dataset. Where a file came, went or changed, another is made.
"""

import hashlib
import json
import os
import shutil
import sqlite3
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock
from numpy.typing import NDArray
from tqdm import tqdm

from models.errors import DataError, StudioError
from models.writing import sync
from training.data.archives import is_archive, unpack_once
from training.data.entries import Entry, Skipped, valid
from training.data.images import RULES
from training.data.sizes import Size, Sizes
from training.data.sources import fingerprint, scan

SCHEMA = """
PRAGMA user_version = 3; -- goes up when a dataset is read differently
CREATE TABLE pictures (
    id INTEGER PRIMARY KEY, width INTEGER, height INTEGER, captions TEXT, split TEXT, label TEXT,
    file BLOB, member BLOB, offset INTEGER, size INTEGER
);
CREATE TABLE captions (id INTEGER PRIMARY KEY, text TEXT UNIQUE);
CREATE TABLE facts (name TEXT, value TEXT);
INSERT INTO captions VALUES (0, '');
"""
CHUNK = 256


class Index:
    """Usable pictures by number, in the dataset's order; distinct captions by number, 0 is the empty one."""

    def __init__(self, file: Path) -> None:
        self.database = sqlite3.connect(
            f"{file.absolute().as_uri()}?mode=ro&immutable=1", uri=True, check_same_thread=False
        )
        # Mapped pages belong to the file, cached ones to the process.
        self.database.execute("PRAGMA mmap_size = 1000000000000")
        self.database.execute("PRAGMA cache_size = -256")
        # "pictures", "captions": hashes of the pictures as they lie there and of the captions; "skipped".
        self.facts: dict[str, str] = dict(self.database.execute("SELECT * FROM facts"))

    def __len__(self) -> int:
        return self._number("SELECT count(*) FROM pictures")

    def entry(self, picture: int) -> Entry:
        """A picture as the dataset describes it."""
        query = "SELECT split, label, file, member, offset, size FROM pictures WHERE id = ?"
        split, label, file, member, offset, size = self._row(query, picture)
        captions = tuple(self.caption(number) for number in self.caption_numbers(picture))
        place = {"file": os.fsdecode(file), "member": os.fsdecode(member), "offset": offset, "size": size}
        return Entry(captions=captions, split=split, label=label, **place)

    def caption_numbers(self, picture: int) -> list[int]:
        """The captions of a picture, the canonical one first."""
        (text,) = self._row("SELECT captions FROM pictures WHERE id = ?", picture)
        numbers: list[int] = json.loads(text)
        return numbers

    @property
    def caption_count(self) -> int:
        """How many distinct captions there are, the empty one included."""
        return self._number("SELECT count(*) FROM captions")

    def caption(self, number: int) -> str:
        """The text of a caption."""
        text: str = self._row("SELECT text FROM captions WHERE id = ?", number)[0]
        return text

    def pictures(self, splits: Sequence[str]) -> NDArray[np.int32]:
        """The numbers of all pictures of some splits, in order."""
        marks = ",".join("?" * len(splits))
        query = f"SELECT id FROM pictures WHERE split IN ({marks}) ORDER BY id"  # noqa: S608
        return np.fromiter((row[0] for row in self.database.execute(query, splits)), np.int32)

    def aspect_ratios(self) -> NDArray[np.float32]:
        """Width over height of every picture."""
        query = "SELECT 1.0 * width / height FROM pictures ORDER BY id"
        return np.fromiter((row[0] for row in self.database.execute(query)), np.float32)

    def splits(self) -> dict[str, int]:
        """How many pictures each split has; "" stands for no split."""
        return dict(self.database.execute("SELECT split, count(*) FROM pictures GROUP BY split"))

    def labels(self, splits: Sequence[str]) -> list[str]:
        """The distinct labels of the pictures of some splits, sorted."""
        marks = ",".join("?" * len(splits))
        query = f"SELECT DISTINCT label FROM pictures WHERE split IN ({marks}) ORDER BY label"  # noqa: S608
        return [row[0] for row in self.database.execute(query, splits)]

    @property
    def skipped_count(self) -> int:
        """How many files are not used."""
        return int(self.facts["skipped"])

    def _row(self, query: str, number: int) -> tuple[Any, ...]:
        row: tuple[Any, ...] | None = self.database.execute(query, (int(number),)).fetchone()
        if row is None:
            raise IndexError(number)
        return row

    def _number(self, query: str) -> int:
        return int(self.database.execute(query).fetchone()[0])


def open_index(path: str, folder: Path, tell: Callable[[Skipped], None]) -> Index:
    """The index of the dataset at `path`, from `folder` where it lies there already.

    Making it decodes every picture once and tells of each file that will not be used. Of several processes
    one makes it, the others wait. An archive is unpacked there first.

    Raises: DataError where there is nothing at `path`, or not one picture can be used; StudioError where
    `folder` cannot be written.
    """
    if is_archive(path):
        return _open_archive(Path(path), folder, tell)
    where = path if "://" in path else str(Path(path).absolute())
    digest = hashlib.sha256("\0".join([RULES, SCHEMA, where, fingerprint(path)]).encode()).hexdigest()
    file = folder / f"index-{digest[:16]}.sqlite"
    if not file.exists():
        made = [one for one in (folder, folder.parent) if not one.exists()]
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with FileLock(file.with_suffix(".lock")):
                if not file.exists():
                    _build(path, file, tell)
        except DataError:  # a request that was wrong leaves nothing behind
            file.with_suffix(".lock").unlink(missing_ok=True)
            with suppress(OSError):
                for one in made:
                    one.rmdir()
            raise
        except (OSError, sqlite3.OperationalError) as error:
            raise StudioError(
                f"the index of {path} cannot be made in {folder} ({error}); make room there, or name "
                "another place in LATENT_STUDIO_RUNS"
            ) from error
    return Index(file)


def _open_archive(archive: Path, folder: Path, tell: Callable[[Skipped], None]) -> Index:
    """The index of an archive that is unpacked, which tells of its files by their places in the archive."""
    unpacked = unpack_once(archive, folder)

    def told(skipped: Skipped) -> None:
        inside = Path(skipped.name).relative_to(unpacked)
        tell(Skipped(str(archive / inside), skipped.reason))

    try:
        return open_index(str(unpacked), folder, told)
    except DataError as error:
        shutil.rmtree(unpacked)
        unpacked.with_suffix(".lock").unlink(missing_ok=True)
        raise DataError(str(error).replace(str(unpacked), str(archive))) from error


def _build(path: str, file: Path, tell: Callable[[Skipped], None]) -> None:
    sizes, hashed = Sizes(file.parent / "sizes.sqlite"), hashlib.sha256()
    count = skipped = 0
    partial = file.with_suffix(".partial")
    partial.unlink(missing_ok=True)
    try:
        with (
            closing(sqlite3.connect(partial)) as database,
            tqdm(desc="looking at pictures", unit=" files", leave=False) as bar,
        ):
            database.execute("PRAGMA journal_mode = OFF")  # a torn one is thrown away
            database.executescript(SCHEMA)
            found = scan(path)
            while chunk := list(islice(found, CHUNK)):
                judged = iter(sizes.of([one for one in chunk if isinstance(one, Entry)]))
                for one in chunk:
                    size = one.reason if isinstance(one, Skipped) else next(judged)
                    if isinstance(one, Entry) and not isinstance(size, str):
                        hashed.update(f"{one.name!r} {one.offset} {one.stamp} {size}\n".encode())
                        _insert(database, count, one, size)
                        count += 1
                    else:
                        tell(Skipped(valid(one.name), valid(str(size))))
                        skipped += 1
                bar.update(len(chunk))
            if count == 0:
                raise DataError(f"{path} has no usable picture among {skipped} files")
            captions = hashlib.sha256()
            for (text,) in database.execute("SELECT text FROM captions ORDER BY id"):
                captions.update(f"{text!r}\n".encode())
            facts = {"pictures": hashed.hexdigest(), "captions": captions.hexdigest(), "skipped": skipped}
            database.executemany("INSERT INTO facts VALUES (?, ?)", facts.items())
            database.commit()
        sync(partial)
        partial.replace(file)
        sync(file.parent)
    finally:
        partial.unlink(missing_ok=True)


def _insert(database: sqlite3.Connection, number: int, entry: Entry, size: Size) -> None:
    numbers = []
    for caption in dict.fromkeys(entry.captions):
        database.execute("INSERT OR IGNORE INTO captions (text) VALUES (?)", (caption,))
        numbers += database.execute("SELECT id FROM captions WHERE text = ?", (caption,)).fetchone()
    place = (os.fsencode(entry.file), os.fsencode(entry.member), entry.offset, entry.size)
    row = (number, *size, json.dumps(numbers), entry.split, entry.label, *place)
    database.execute(f"INSERT INTO pictures VALUES ({','.join('?' * len(row))})", row)  # noqa: S608
