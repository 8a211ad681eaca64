"""The one SQLite file under outputs/: jobs, an index over the pictures, people's own defaults."""

import hashlib
import logging
import sqlite3
import threading
import time
from pathlib import Path
from typing import Any

from models.errors import StudioError

logger = logging.getLogger(__name__)

SCHEMA = """
CREATE TABLE IF NOT EXISTS jobs (
    id TEXT PRIMARY KEY, owner TEXT NOT NULL, model TEXT NOT NULL, request TEXT NOT NULL, state TEXT NOT NULL,
    error TEXT, created REAL NOT NULL, started REAL, finished REAL, comparison TEXT);
CREATE INDEX IF NOT EXISTS jobs_by_owner ON jobs (owner, created);
CREATE TABLE IF NOT EXISTS pictures (
    path TEXT PRIMARY KEY, id TEXT NOT NULL UNIQUE, owner TEXT NOT NULL, created REAL NOT NULL,
    model TEXT NOT NULL, request TEXT NOT NULL, words TEXT NOT NULL, negative TEXT NOT NULL,
    seed INTEGER NOT NULL, sampler TEXT NOT NULL, schedule TEXT NOT NULL, steps INTEGER NOT NULL,
    guidance REAL NOT NULL, width INTEGER NOT NULL, height INTEGER NOT NULL, favourite INTEGER NOT NULL,
    engine TEXT NOT NULL, note TEXT NOT NULL);
CREATE INDEX IF NOT EXISTS pictures_by_owner ON pictures (owner, created);
CREATE TABLE IF NOT EXISTS defaults (
    owner TEXT NOT NULL, model TEXT NOT NULL, request TEXT NOT NULL, PRIMARY KEY (owner, model));
"""
PICTURES_VERSION = 2  # raised with every change of the table `pictures`, which is then made anew

BROWSER = "browser:"  # how an owner begins who needs no name: the page is then this machine's alone


def owner_tag(owner: str) -> str:
    """What files and rows say in place of an owner: a shared PNG tells no name and no secret."""
    return hashlib.sha256(f"latent studio owner {owner}".encode()).hexdigest()[:16]


def open_database(path: Path) -> "Database":
    """The database at `path`, made if it is not there; a damaged one is set aside under another name.

    Raises StudioError where the file cannot be opened for another reason.
    """
    try:
        return Database(path)
    except sqlite3.OperationalError as error:  # no permission, a full disk: nothing is wrong with the file
        raise StudioError(
            f"{path} cannot be opened ({error}): make room there, make its folder writable, or move it."
        ) from None
    except sqlite3.DatabaseError as error:
        aside = f"{path}.damaged-{time.strftime('%Y%m%d-%H%M%S')}"
        for end in ("", "-wal", "-shm"):
            damaged = Path(f"{path}{end}")
            if damaged.exists():
                damaged.replace(f"{aside}{end}")
        logger.warning("%s is damaged (%s): it was moved to %s and is made anew.", path, error, aside)
        return Database(path)


class Database:
    """One connection, one lock: jobs are written by the worker, pictures are read by every viewer.

    `is_new` where there was no index of pictures yet. Raises sqlite3.DatabaseError for a damaged file, and
    StudioError where a full disk takes no more: then all is as it was.
    """

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path, self._lock = path, threading.Lock()
        self._connection = sqlite3.connect(path, check_same_thread=False, timeout=30.0)
        self._connection.row_factory = sqlite3.Row
        try:
            self.is_new = self._set_up()
        except BaseException:
            self._connection.close()
            raise

    def _set_up(self) -> bool:
        with self._lock, self._connection:
            (found,) = self._connection.execute("PRAGMA quick_check(1)").fetchone()
            if found != "ok":
                raise sqlite3.DatabaseError(found)
            tables = self._connection.execute("SELECT name FROM sqlite_master").fetchall()
            self._connection.execute("PRAGMA journal_mode=WAL")
            self._connection.execute("PRAGMA synchronous=NORMAL")
            (version,) = self._connection.execute("PRAGMA user_version").fetchone()
            if version != PICTURES_VERSION:
                self._connection.execute("DROP TABLE IF EXISTS pictures")
            self._connection.executescript(f"{SCHEMA}PRAGMA user_version={PICTURES_VERSION}")
            columns = [name for _, name, *_ in self._connection.execute("PRAGMA table_info(jobs)")]
            if "comparison" not in columns:  # rows of jobs are kept, whoever wrote them
                self._connection.execute("ALTER TABLE jobs ADD COLUMN comparison TEXT")
        return version != PICTURES_VERSION or "pictures" not in [name for (name,) in tables]

    def read(self, statement: str, values: tuple[Any, ...] = ()) -> list[sqlite3.Row]:
        """The rows that one SELECT answers."""
        with self._lock:
            return self._connection.execute(statement, values).fetchall()

    def write(self, statement: str, values: tuple[Any, ...] = ()) -> None:
        """Run one statement in a transaction of its own."""
        self.write_all([(statement, values)])

    def write_all(self, statements: list[tuple[str, tuple[Any, ...]]]) -> None:
        """Run all the statements or none of them."""
        try:
            with self._lock, self._connection:
                for statement, values in statements:
                    self._connection.execute(statement, values)
        except sqlite3.OperationalError as error:
            raise StudioError(
                f"{self._path} cannot be written ({error}): make room, or end what else writes it."
            ) from error

    def close(self) -> None:
        """Give the file back; the write-ahead log is folded into it."""
        with self._lock:
            self._connection.close()
