import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from app.job import JobState
from models.errors import RequestError
from pipelines.result import StepEvent
from tests.app.engines import PacedEngine, a_request
from tests.app.queues import MODEL, opened, the_end, until


def counting(gate: threading.Semaphore | None = None) -> Callable[[object], Iterator[object]]:
    """Work that takes three steps of nothing and finds out in which thread it runs."""

    def work(engine: object) -> Iterator[object]:
        for step in range(1, 4):
            if gate is not None:
                assert gate.acquire(timeout=60)
            yield StepEvent(
                image_index=0, images=1, step=step, total=3, sigma=1.0, latents=None, denoised=None
            )
        yield threading.current_thread().name

    return work


def test_other_work_is_done_by_the_worker_and_found_in_memory_alone(tmp_path: Path) -> None:
    with opened(tmp_path, PacedEngine) as jobs:
        job = jobs.submit(a_request(), "ann", MODEL, work=counting())
        view = the_end(jobs, job)
        assert (view.state, view.outcome, view.paths) == (JobState.DONE, "engine", ())
        assert jobs.find(job.id, "ben") is None
        assert jobs.latest("ann") is None  # pictures alone are looked for
        assert jobs.rows.newest("ann") == []


def test_other_work_is_cancelled_between_steps_and_bounded(tmp_path: Path, gate: threading.Semaphore) -> None:
    with opened(tmp_path, PacedEngine, queued_jobs_per_owner=1) as jobs:
        job = jobs.submit(a_request(), "ann", MODEL, work=counting(gate))
        until(jobs, job, lambda view: view.state is JobState.RUNNING)
        assert (jobs.active("ann"), jobs.active("ann", looks=True)) == ([], [job])
        assert jobs.cancel_all("ann") == 0  # Stop of the pictures leaves it alone
        waiting = jobs.submit(a_request(), "ann", MODEL, work=counting())
        with pytest.raises(RequestError, match="queue is full"):
            jobs.submit(a_request(), "ann", MODEL, work=counting())
        assert not jobs.cancel(job.id, "ben")
        assert jobs.cancel(job.id, "ann")
        gate.release()
        assert the_end(jobs, job).state is JobState.CANCELLED
        assert the_end(jobs, waiting).state is JobState.DONE


def test_outcomes_are_kept_for_the_last_few(tmp_path: Path) -> None:
    with opened(tmp_path, PacedEngine, outcomes_remembered=2) as jobs:
        done = [jobs.submit(a_request(), owner, MODEL, work=counting()) for owner in ("ann", "ben", "ann")]
        for job in done:
            the_end(jobs, job)
        assert [job.outcome for job in done] == [None, "engine", "engine"]
