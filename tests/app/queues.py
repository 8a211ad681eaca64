"""A queue of its own for a test, and what it waits for."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from app.database import Database
from app.job import Job, JobView
from app.jobs import Jobs
from app.library import Library
from app.settings import Settings

MODEL = Path("checkpoints/some-model")


@contextmanager
def opened(folder: Path, open_engine: Callable[[Path], object], **limits: object) -> Iterator[Jobs]:
    settings = Settings(outputs=folder, **limits)  # type: ignore[arg-type]
    database = Database(settings.database)
    jobs = Jobs(settings, database, Library(folder, database), open_engine)  # type: ignore[arg-type]
    try:
        yield jobs
    finally:
        jobs.close()
        database.close()


def the_end(jobs: Jobs, job: Job) -> JobView:
    last = None
    for view in jobs.watch(job, per_second=100):
        last = view
    assert last is not None
    return last


def close_amid_a_step(jobs: Jobs, gate: threading.Semaphore) -> None:
    """Close while the gate holds a step back, which goes on once the worker has been told.

    A worker that nobody lets go on would fail long after its test, in the midst of another.
    """
    closing = threading.Thread(target=jobs.close, args=(600,))
    closing.start()
    with jobs._changed:
        jobs._changed.wait_for(lambda: all(worker.closed for worker in jobs._workers))
    gate.release(1000)
    closing.join()


def until(jobs: Jobs, job: Job, what: Callable[[JobView], bool]) -> JobView:
    for view in jobs.watch(job, per_second=200):
        if what(view):
            return view
    raise AssertionError("the job ended before")
