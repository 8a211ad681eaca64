"""Pictures that follow what is typed: each replaces the one before, and few of them are kept."""

import math
import threading
from pathlib import Path

import pytest

from app.job import JobState
from tests.app.engines import PacedEngine, a_request
from tests.app.queues import MODEL, opened, the_end, until

FLEETING = {"live_stands_seconds": math.inf}  # however long a machine takes, no picture has stood for a while


def test_of_live_pictures_the_last_is_kept_and_its_row_alone(tmp_path: Path) -> None:
    with opened(tmp_path, PacedEngine, **FLEETING) as jobs:
        before = None
        for words in ("a", "a c", "a ca", "a cat"):
            job = jobs.submit(a_request(words), "ann", MODEL, replaces=before, live=True)
            view, before = the_end(jobs, job), job.id
        assert (view.state, len(view.gone)) == (JobState.DONE, 1)
        assert sorted(tmp_path.rglob("*.png")) == sorted(view.paths)
        assert [row["id"] for row in jobs.rows.newest("ann")] == [job.id]


def test_a_live_picture_goes_only_when_the_next_is_there(tmp_path: Path, gate: threading.Semaphore) -> None:
    with opened(tmp_path, lambda folder: PacedEngine(folder, gate), **FLEETING) as jobs:
        gate.release(3)
        first = jobs.submit(a_request("one"), "ann", MODEL, live=True)
        kept = the_end(jobs, first).paths
        second = jobs.submit(a_request("two"), "ann", MODEL, replaces=first.id, live=True)
        until(jobs, second, lambda view: view.state is JobState.RUNNING)
        third = jobs.submit(a_request("three"), "ann", MODEL, replaces=second.id, live=True)
        gate.release(1)  # the step in which the second is
        assert the_end(jobs, second).replaced
        until(jobs, third, lambda view: view.state is JobState.RUNNING)
        assert list(tmp_path.rglob("*.png")) == list(kept)
        gate.release(3)
        view = the_end(jobs, third)
        assert (view.gone, list(tmp_path.rglob("*.png"))) == (kept, list(view.paths))


def test_what_stood_or_is_a_favourite_or_was_asked_for_stays(tmp_path: Path) -> None:
    with opened(tmp_path, PacedEngine, live_stands_seconds=0.0) as jobs:
        first = jobs.submit(a_request("one"), "ann", MODEL, live=True)
        the_end(jobs, first)
        second = jobs.submit(a_request("two"), "ann", MODEL, replaces=first.id, live=True)
        assert the_end(jobs, second).gone == ()
    with opened(tmp_path, PacedEngine, **FLEETING) as jobs:
        first = jobs.submit(a_request("three"), "ann", MODEL, live=True)
        (path,) = the_end(jobs, first).paths
        picture = jobs._library.find(path.stem, "ann")
        assert picture is not None
        jobs._library.set_favourite(picture, True)
        second = jobs.submit(a_request("four"), "ann", MODEL, replaces=first.id, live=True)
        assert the_end(jobs, second).gone == ()
        asked = jobs.submit(a_request("five"), "ann", MODEL)
        the_end(jobs, asked)
        last = jobs.submit(a_request("six"), "ann", MODEL, replaces=asked.id, live=True)
        assert the_end(jobs, last).gone == ()
    assert len(list(tmp_path.rglob("*.png"))) == 6


@pytest.mark.parametrize("ended", ["stopped", "failed"])
def test_a_live_picture_stays_where_the_next_does_not_come(tmp_path: Path, ended: str) -> None:
    gate = threading.Semaphore(3)
    with opened(tmp_path, lambda folder: PacedEngine(folder, gate)) as jobs:
        first = jobs.submit(a_request("one"), "ann", MODEL, live=True)
        kept = the_end(jobs, first).paths
        words = "fail" if ended == "failed" else "two"
        second = jobs.submit(a_request(words), "ann", MODEL, replaces=first.id, live=True)
        if ended == "stopped":
            jobs.cancel(second.id, "ann")
        gate.release(1)
        assert the_end(jobs, second).paths == ()
        assert list(tmp_path.rglob("*.png")) == list(kept)


def test_a_burst_leaves_one_job_that_runs_and_one_that_waits(
    tmp_path: Path, gate: threading.Semaphore
) -> None:
    engine = PacedEngine(MODEL, gate)
    with opened(tmp_path, lambda folder: engine, queued_jobs_per_owner=1) as jobs:
        before = None
        for number in range(100):
            job = jobs.submit(a_request(f"{number}"), "ann", MODEL, replaces=before, live=True)
            if before is None:
                until(jobs, job, lambda view: view.state is JobState.RUNNING)
            before = job.id
        assert len(jobs.active("ann")) == 2
        assert len(job.stands_for) <= 1  # nothing grows with the keys
        gate.release(4)
        assert the_end(jobs, job).state is JobState.DONE
        assert engine.steps_done == 4
        assert len(jobs.rows.newest("ann")) == 1


def test_nobody_replaces_anothers_live_picture(tmp_path: Path, gate: threading.Semaphore) -> None:
    with opened(tmp_path, lambda folder: PacedEngine(folder, gate)) as jobs:
        job = jobs.submit(a_request("mine"), "ann", MODEL, live=True)
        other = jobs.submit(a_request("yours"), "ben", MODEL, replaces=job.id, live=True)
        gate.release(6)
        assert [the_end(jobs, one).state for one in (job, other)] == [JobState.DONE] * 2
        assert len(list(tmp_path.rglob("*.png"))) == 2
