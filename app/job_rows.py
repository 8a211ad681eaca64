"""Jobs as rows of the database, which outlive the server that ran them."""

import sqlite3
import time

from app.database import Database, owner_tag
from app.job import WAITING_OR_RUNNING, Job, JobState


class JobRows:
    """Writes and reads the rows; those that another server left behind read "interrupted" from then on."""

    def __init__(self, database: Database) -> None:
        self._database = database
        database.write(
            "UPDATE jobs SET state = ?, finished = ? WHERE state IN (?, ?)",
            (JobState.INTERRUPTED, time.time(), *WAITING_OR_RUNNING),
        )

    def write(self, job: Job) -> None:
        """Write a job as it is now."""
        self._database.write(
            "INSERT INTO jobs VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO UPDATE SET "
            "state = excluded.state, error = excluded.error, started = excluded.started, "
            "finished = excluded.finished",
            (job.id, owner_tag(job.owner), str(job.model), job.request.to_json(), job.state, job.error,
             job.created, job.started, job.finished, job.comparison and job.comparison.to_json()),
        )  # fmt: skip

    def delete(self, job: Job) -> None:
        """Forget that there was such a job."""
        self._database.write("DELETE FROM jobs WHERE id = ?", (job.id,))

    def newest(self, owner: str, limit: int = 50) -> list[sqlite3.Row]:
        """This owner's jobs, newest first."""
        return self._database.read(
            "SELECT * FROM jobs WHERE owner = ? ORDER BY created DESC, rowid DESC LIMIT ?",
            (owner_tag(owner), limit),
        )

    def interrupted(self, owner: str, limit: int = 20) -> list[sqlite3.Row]:
        """This owner's last jobs that a server left undone, oldest first."""
        rows = self._database.read(
            "SELECT * FROM jobs WHERE owner = ? AND state = ? ORDER BY created DESC, rowid DESC LIMIT ?",
            (owner_tag(owner), JobState.INTERRUPTED, limit),
        )
        return rows[::-1]

    def forget(self, job_id: str, owner: str) -> None:
        """Delete the row of a job that a server left undone."""
        self._database.write(
            "DELETE FROM jobs WHERE id = ? AND owner = ? AND state = ?",
            (job_id, owner_tag(owner), JobState.INTERRUPTED),
        )
