"""The one SQLite file under outputs/: rows of jobs, and an index over the pictures."""

import hashlib
import sqlite3
import threading
from pathlib import Path
from typing import Any

SCHEMA = """
CREATE TABLE IF NOT EXISTS jobs (
    id TEXT PRIMARY KEY, owner TEXT NOT NULL, model TEXT NOT NULL, request TEXT NOT NULL, state TEXT NOT NULL,
    error TEXT, created REAL NOT NULL, started REAL, finished REAL);
CREATE INDEX IF NOT EXISTS jobs_by_owner ON jobs (owner, created);
CREATE TABLE IF NOT EXISTS pictures (
    path TEXT PRIMARY KEY, id TEXT NOT NULL UNIQUE, owner TEXT NOT NULL, created REAL NOT NULL,
    model TEXT NOT NULL, request TEXT NOT NULL);
CREATE INDEX IF NOT EXISTS pictures_by_owner ON pictures (owner, created);
"""


def owner_tag(owner: str) -> str:
    """What files and rows say in place of an owner: a shared PNG tells no name and no secret."""
    return hashlib.sha256(f"latent studio owner {owner}".encode()).hexdigest()[:16]


class Database:
    """One connection, one lock: jobs are written by the worker, pictures are read by every viewer."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._lock = threading.Lock()
        self._connection = sqlite3.connect(path, check_same_thread=False, timeout=30.0)
        self._connection.row_factory = sqlite3.Row
        with self._lock, self._connection:
            self._connection.execute("PRAGMA journal_mode=WAL")
            self._connection.execute("PRAGMA synchronous=NORMAL")
            self._connection.executescript(SCHEMA)

    def read(self, statement: str, values: tuple[Any, ...] = ()) -> list[sqlite3.Row]:
        """The rows that one SELECT answers."""
        with self._lock:
            return self._connection.execute(statement, values).fetchall()

    def write(self, statement: str, values: tuple[Any, ...] = ()) -> None:
        """Run one statement in a transaction of its own."""
        with self._lock, self._connection:
            self._connection.execute(statement, values)

    def write_all(self, statements: list[tuple[str, tuple[Any, ...]]]) -> None:
        """Run all the statements or none of them."""
        with self._lock, self._connection:
            for statement, values in statements:
                self._connection.execute(statement, values)

    def close(self) -> None:
        """Give the file back; the write-ahead log is folded into it."""
        with self._lock:
            self._connection.close()
