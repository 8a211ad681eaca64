import threading
from pathlib import Path

import pytest

from app.job import JobState
from models.errors import RequestError
from tests.app.engines import PacedEngine, a_request
from tests.app.queues import MODEL, opened, the_end, until


def test_waiting_jobs_change_places_with_those_of_their_owner_alone(
    tmp_path: Path, gate: threading.Semaphore
) -> None:
    with opened(tmp_path, lambda folder: PacedEngine(folder, gate)) as jobs:
        running = jobs.submit(a_request(), "ann", MODEL)
        until(jobs, running, lambda view: view.state is JobState.RUNNING)
        first, others, second, third = (
            jobs.submit(a_request(), who, MODEL) for who in ("ann", "ben", "ann", "ann")
        )
        assert not jobs.move(first.id, "ben", 1)
        assert not jobs.move(running.id, "ann", 1)
        assert jobs.move(third.id, "ann", -1)
        assert [jobs.view(job).position for job in (first, others, third, second)] == [1, 2, 3, 4]
        assert jobs.move(first.id, "ann", 100)
        assert [jobs.view(job).position for job in (third, others, second, first)] == [1, 2, 3, 4]
        gate.release(15)
        for job in (third, others, second, first):
            the_end(jobs, job)
        ends = [job.finished for job in (third, others, second, first)]
    assert ends == sorted(ends)


def test_the_queue_is_bounded_for_each_owner_and_for_all(tmp_path: Path, gate: threading.Semaphore) -> None:
    limits = {"queued_jobs_per_owner": 2, "queued_jobs_total": 3}
    with opened(tmp_path, lambda folder: PacedEngine(folder, gate), **limits) as jobs:
        running = jobs.submit(a_request(), "ann", MODEL)
        until(jobs, running, lambda view: view.state is JobState.RUNNING)
        waiting = [jobs.submit(a_request(), "ann", MODEL) for _ in range(2)]
        with pytest.raises(RequestError, match="queue is full: 2 of your jobs"):
            jobs.submit(a_request(), "ann", MODEL)
        jobs.submit(a_request(), "ben", MODEL)
        with pytest.raises(RequestError, match="queue is full: 3 jobs"):
            jobs.submit(a_request(), "cat", MODEL)
        jobs.submit(a_request(), "ann", MODEL, replaces=waiting[0].id)  # takes no more room
        assert jobs.cancel_all("ann") == 3
        gate.release(100)
