"""What is stopped leaves nothing behind."""

import gc
import threading
from pathlib import Path

import psutil
import pytest

from app.job import JobState
from tests.app.engines import a_request, step_by_step
from tests.app.queues import opened, the_end, until

CYCLES = 20
MAX_GROWTH_BYTES = 12 * 2**20


def resident_bytes() -> int:
    gc.collect()
    return int(psutil.Process().memory_info().rss)


@pytest.mark.slow
def test_twenty_stops_leave_memory_flat_and_free_the_queue_within_a_step(
    tmp_path: Path, tiny_model_folder: Path, gate: threading.Semaphore
) -> None:
    found = []
    with opened(tmp_path, step_by_step(gate)) as jobs:
        for _ in range(CYCLES + 5):
            job = jobs.submit(a_request(steps=150, width=128, height=128), "ann", tiny_model_folder)
            gate.release()
            until(jobs, job, lambda view: view.event is not None)
            jobs.cancel(job.id, "ann")
            gate.release()  # the step that it is in
            assert the_end(jobs, job).state is JobState.CANCELLED
            assert job.progress[-1][1] * 150 == pytest.approx(1)
            found.append(resident_bytes())
    first, last = found[4], found[-1]  # the first ones fill caches
    print(f"memory after each stop: {[round(bytes / 2**20) for bytes in found]} MiB")
    assert last - first < MAX_GROWTH_BYTES
