"""Pictures that were decoded once, remembered: a dataset that grew costs the decoding of what is new."""

import hashlib
import os
import sqlite3
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

from models.errors import DataError
from training.data.entries import Entry
from training.data.images import RULES, open_entry

Size = tuple[int, int]  # width and height in pixels, upright
MAX_THREADS = 4


class Sizes:
    """Width and height of pictures, looked up in `file` or found by decoding them, or why they cannot be.

    Only what can be used is remembered: a file that could not be read gets another chance.
    """

    def __init__(self, file: Path) -> None:
        self.file = file

    def of(self, entries: Sequence[Entry]) -> list[Size | str]:
        """The size of each picture, or the reason why it cannot be used."""
        keys = [_key(entry) for entry in entries]
        known = self._look_up(keys)
        missing = [place for place, key in enumerate(keys) if key not in known]
        with ThreadPoolExecutor(min(MAX_THREADS, os.cpu_count() or 1)) as pool:
            found = dict(zip(missing, pool.map(_decode, [entries[i] for i in missing]), strict=True))
        self._remember([(keys[i], *size) for i, size in found.items() if isinstance(size, tuple)])
        return [known[key] if key in known else found[place] for place, key in enumerate(keys)]

    def _look_up(self, keys: list[bytes]) -> dict[bytes, Size]:
        if not self.file.exists():
            return {}
        with closing(self._connect()) as database:
            marks = ",".join("?" * len(keys))
            rows = database.execute(f"SELECT * FROM sizes WHERE key IN ({marks})", keys)  # noqa: S608
            return {key: (width, height) for key, width, height in rows}

    def _remember(self, rows: list[tuple[bytes, int, int]]) -> None:
        if not rows:
            return
        with closing(self._connect()) as database, database:
            database.executemany("INSERT OR REPLACE INTO sizes VALUES (?, ?, ?)", rows)

    def _connect(self) -> sqlite3.Connection:
        database = sqlite3.connect(self.file, timeout=60)  # several trainings may look at once
        database.execute(
            "CREATE TABLE IF NOT EXISTS sizes (key BLOB PRIMARY KEY, width INTEGER, height INTEGER)"
        )
        return database


def _key(entry: Entry) -> bytes:
    """A picture as it lies there, under the rules by which it was judged."""
    place = "\0".join([RULES, entry.file, entry.stamp, entry.member, str(entry.offset)])
    return hashlib.blake2b(os.fsencode(place), digest_size=16).digest()


def _decode(entry: Entry) -> Size | str:
    try:
        return open_entry(entry).size
    except DataError as error:
        return str(error)
