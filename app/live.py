"""Which of the pictures that are drawn live stay: not each one that a key or a slider led to."""

from pathlib import Path

from app.job import Job, JobState
from app.job_rows import JobRows
from app.library import Library


def fleeting(old: Job, now: float, stands_seconds: float) -> tuple[Job, ...]:
    """The live jobs whose pictures go when the one after `old` is done; `now` is Unix seconds.

    A picture that stood for `stands_seconds` was looked at, and stays.
    """
    if old.state is JobState.DONE:
        assert old.finished is not None
        return (old,) if now - old.finished < stands_seconds else ()
    # One that runs may be just about to leave a picture.
    return tuple(job for job in (*old.stands_for, old) if job.paths or job.state is JobState.RUNNING)


def take_back(job: Job, library: Library, rows: JobRows) -> tuple[Path, ...]:
    """Delete the pictures of a job but for favourites, and its row where none is left; those that went."""
    found = [library.find(path.stem, job.owner) for path in job.paths]
    gone = [picture for picture in found if picture is not None and not picture.favourite]
    for picture in gone:
        library.delete(picture)
    if len(gone) == len(job.paths):
        rows.delete(job)
    return tuple(picture.path for picture in gone)
