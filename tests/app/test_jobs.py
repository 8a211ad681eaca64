import sqlite3
import threading
import time
from pathlib import Path

import pytest

from app.database import Database
from app.job import JobState, readable
from models.errors import RequestError
from pipelines.png import read_png
from tests.app.engines import PacedEngine, a_request
from tests.app.queues import MODEL, close_amid_a_step, opened, the_end, until


def test_a_job_ends_with_its_pictures_on_disk_settings_inside(tmp_path: Path) -> None:
    with opened(tmp_path, PacedEngine) as jobs:
        view = the_end(jobs, jobs.submit(a_request(count=2), "ann", MODEL))
    assert (view.state, view.fraction, view.error) == (JobState.DONE, 1.0, None)
    assert [path.name.rpartition("-")[2] for path in view.paths] == ["7.png", "8.png"]
    settings = read_png(view.paths[1])
    assert settings is not None
    assert settings.request == a_request(seed=8)


def test_cancelling_stops_at_the_next_step(tmp_path: Path, gate: threading.Semaphore) -> None:
    engine = PacedEngine(MODEL, gate)
    with opened(tmp_path, lambda _: engine) as jobs:
        job = jobs.submit(a_request(steps=100), "ann", MODEL)
        gate.release(2)
        until(jobs, job, lambda view: view.event is not None and view.event.step == 2)
        assert jobs.cancel(job.id, "ann")
        gate.release()  # the step that is being drawn
        view = the_end(jobs, job)
        assert not jobs.cancel(job.id, "ann")
    assert (view.state, view.paths) == (JobState.CANCELLED, ())
    assert (engine.steps_done, engine.closed_early) == (3, 1)


def test_a_waiting_job_is_cancelled_at_once(tmp_path: Path, gate: threading.Semaphore) -> None:
    with opened(tmp_path, lambda folder: PacedEngine(folder, gate)) as jobs:
        first, second = (jobs.submit(a_request(), "ann", MODEL) for _ in range(2))
        assert jobs.cancel(second.id, "ann")
        assert jobs.view(second).state is JobState.CANCELLED
        gate.release(3)
        assert the_end(jobs, first).state is JobState.DONE


def test_a_job_that_replaces_another_takes_its_place(tmp_path: Path, gate: threading.Semaphore) -> None:
    engine = PacedEngine(MODEL, gate)
    with opened(tmp_path, lambda _: engine) as jobs:
        running = jobs.submit(a_request("one", steps=50), "ann", MODEL)
        until(jobs, running, lambda view: view.state is JobState.RUNNING)
        waiting = jobs.submit(a_request("two"), "ann", MODEL)
        last = jobs.submit(a_request("three"), "ben", MODEL)
        newer = jobs.submit(a_request("two, better"), "ann", MODEL, replaces=waiting.id)
        assert jobs.view(waiting).state is JobState.CANCELLED
        assert [jobs.view(job).position for job in (newer, last)] == [1, 2]
        newest = jobs.submit(a_request("one, better"), "ann", MODEL, replaces=running.id)
        gate.release(100)
        assert the_end(jobs, running).state is JobState.CANCELLED
        assert engine.closed_early == 1
        assert [the_end(jobs, job).state for job in (newer, last, newest)] == [JobState.DONE] * 3


def test_stop_keeps_the_pictures_that_are_finished(tmp_path: Path, gate: threading.Semaphore) -> None:
    engine = PacedEngine(MODEL, gate)
    engine.at_once = 1
    with opened(tmp_path, lambda _: engine) as jobs:
        job = jobs.submit(a_request(count=3), "ann", MODEL)
        gate.release(4)
        view = until(jobs, job, lambda view: view.event is not None and view.event.image_index == 1)
        assert [path.stem.rpartition("-")[2] for path in view.paths] == ["7"]
        assert jobs.cancel(job.id, "ann")
        gate.release()
        view = the_end(jobs, job)
    assert view.state is JobState.CANCELLED
    assert [read_png(path).request for path in view.paths] == [a_request(seed=7)]
    assert engine.steps_done == 5


def test_skip_goes_on_with_the_next_picture(tmp_path: Path, gate: threading.Semaphore) -> None:
    engine = PacedEngine(MODEL, gate)
    engine.at_once = 1
    with opened(tmp_path, lambda _: engine) as jobs:
        job = jobs.submit(a_request(count=3), "ann", MODEL)
        gate.release(4)
        until(jobs, job, lambda view: view.event is not None and view.event.image_index == 1)
        assert not jobs.skip(job.id, "ben")
        assert jobs.skip(job.id, "ann")
        gate.release(4)  # the step that is being drawn, and the third picture
        view = the_end(jobs, job)
    assert view.state is JobState.DONE
    assert [path.stem.rpartition("-")[2] for path in view.paths] == ["7", "9"]


def test_what_a_killed_server_left_can_be_drawn_again_once(tmp_path: Path, gate: threading.Semaphore) -> None:
    with opened(tmp_path, lambda folder: PacedEngine(folder, gate)) as jobs:
        left = jobs.submit(a_request("a ship", count=2), "ann", MODEL)
        other = jobs.submit(a_request("a tree"), "ann", MODEL)
        close_amid_a_step(jobs, gate)
    with opened(tmp_path, PacedEngine) as jobs:
        assert [row["id"] for row in jobs.rows.interrupted("ann")] == [left.id, other.id]
        assert jobs.again(left.id, "ben") is None
        jobs.rows.forget(other.id, "ben")
        again = jobs.again(left.id, "ann")
        assert again.request == left.request
        assert len(the_end(jobs, again).paths) == 2
        assert jobs.again(left.id, "ann") is None
        jobs.rows.forget(other.id, "ann")
        assert jobs.rows.interrupted("ann") == []


def test_owners_cannot_see_or_stop_each_other(tmp_path: Path, gate: threading.Semaphore) -> None:
    with opened(tmp_path, lambda folder: PacedEngine(folder, gate)) as jobs:
        job = jobs.submit(a_request(), "ann", MODEL)
        assert jobs.find(job.id, "ann") is job
        assert jobs.find(job.id, "ben") is None
        assert jobs.active("ben") == []
        assert jobs.latest("ben") is None
        assert not jobs.cancel(job.id, "ben")
        jobs.submit(a_request("mine"), "ben", MODEL, replaces=job.id)
        gate.release(6)
        assert the_end(jobs, job).state is JobState.DONE
        assert [row["state"] for row in jobs.rows.newest("ann")] == ["done"]


def test_a_viewer_that_leaves_does_not_stop_the_job(tmp_path: Path, gate: threading.Semaphore) -> None:
    with opened(tmp_path, lambda folder: PacedEngine(folder, gate)) as jobs:
        job = jobs.submit(a_request(), "ann", MODEL)
        viewer = jobs.watch(job)
        next(viewer)
        viewer.close()  # type: ignore[attr-defined]
        assert jobs.active("ann") == [job]
        gate.release(3)
        assert the_end(jobs, job).state is JobState.DONE


def test_a_viewer_skips_states_but_never_the_last(tmp_path: Path) -> None:
    with opened(tmp_path, lambda folder: PacedEngine(folder, seconds=0.01)) as jobs:
        begun = time.monotonic()
        job = jobs.submit(a_request(steps=60), "ann", MODEL)
        views = list(jobs.watch(job, per_second=10))
        taken = time.monotonic() - begun
    assert len(views) <= 10 * taken + 2  # the first and the last
    assert views[-1].state is JobState.DONE
    assert [view.fraction for view in views] == sorted(view.fraction for view in views)
    estimates = [view.seconds_left for view in views if view.seconds_left is not None]
    assert estimates
    assert all(0 <= left < 60 * taken for left in estimates)  # as if each step took as long as all


def test_a_failure_is_told_and_the_next_job_works(tmp_path: Path) -> None:
    with opened(tmp_path, PacedEngine) as jobs:
        failed = the_end(jobs, jobs.submit(a_request("fail, please"), "ann", MODEL))
        refused = the_end(jobs, jobs.submit(a_request(width=1032), "ann", MODEL))
        assert the_end(jobs, jobs.submit(a_request(), "ann", MODEL)).state is JobState.DONE
    assert (failed.state, failed.paths) == (JobState.FAILED, ())
    assert "the numbers exploded" in (failed.error or "")
    assert refused.error == "No picture is wider than 1024 here."


def test_what_a_killed_server_left_reads_interrupted(tmp_path: Path) -> None:
    Database(tmp_path / "studio.sqlite3").close()
    with sqlite3.connect(tmp_path / "studio.sqlite3") as killed:
        for number, state in enumerate(("running", "queued", "done")):
            killed.execute("INSERT INTO jobs VALUES (?, ?, 'm', '{}', ?, NULL, ?, NULL, NULL, NULL)",
                           (str(number), "tag", state, number))  # fmt: skip
    killed.close()
    with opened(tmp_path, PacedEngine) as jobs:
        rows = jobs.rows._database.read("SELECT state FROM jobs ORDER BY created")
    assert [row["state"] for row in rows] == ["interrupted", "interrupted", "done"]


def test_closing_interrupts_at_the_next_step(tmp_path: Path, gate: threading.Semaphore) -> None:
    engine = PacedEngine(MODEL, gate)
    with opened(tmp_path, lambda _: engine) as jobs:
        running, waiting = (jobs.submit(a_request(steps=50), "ann", MODEL) for _ in range(2))
        until(jobs, running, lambda view: view.state is JobState.RUNNING)
        close_amid_a_step(jobs, gate)
        assert not any(thread.is_alive() for thread in jobs._threads)
        assert engine.steps_done == 1
        assert [jobs.view(job).state for job in (running, waiting)] == [JobState.INTERRUPTED] * 2
        with pytest.raises(RequestError, match="shutting down"):
            jobs.submit(a_request(), "ann", MODEL)


def test_finished_jobs_are_forgotten_in_memory_but_not_on_disk(tmp_path: Path) -> None:
    with opened(tmp_path, PacedEngine, jobs_remembered=3) as jobs:
        done = [jobs.submit(a_request(), "ann", MODEL) for _ in range(6)]
        for job in done:
            the_end(jobs, job)
        assert len(jobs._jobs) <= 4
        assert len(jobs.rows.newest("ann")) == 6
        assert done[-1].event is None  # no latents are held


def test_neither_names_nor_secrets_of_owners_are_written(tmp_path: Path) -> None:
    with opened(tmp_path, PacedEngine) as jobs:
        view = the_end(jobs, jobs.submit(a_request(), "browser:very-secret", MODEL))
    written = b"".join(path.read_bytes() for path in [*view.paths, *tmp_path.glob("studio.sqlite3*")])
    assert b"very-secret" not in written


def test_an_unforeseen_failure_reads_like_a_sentence() -> None:
    assert "not enough memory" in readable(RuntimeError("DefaultCPUAllocator: can't allocate memory"))
    assert readable(OSError(28, "No space left on device")) == (
        "The picture could not be written: No space left on device."
    )
    assert "ValueError: odd thing" in readable(ValueError("odd\n  thing"))
