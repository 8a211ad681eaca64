import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from PIL import Image

from app.comparison import Comparison
from app.database import Database
from app.job import Job, JobState, JobView, readable
from app.jobs import Jobs
from app.library import Library
from app.settings import Settings
from models.errors import ModelError, RequestError
from pipelines.compare.axes import Axis, axes_from_json
from pipelines.png import read_png
from pipelines.request import StepEvent
from tests.app.engines import PacedEngine, a_request

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


def until(jobs: Jobs, job: Job, what: Callable[[JobView], bool]) -> JobView:
    for view in jobs.watch(job, per_second=200):
        if what(view):
            return view
    raise AssertionError("the job ended before")


@pytest.fixture
def gate() -> threading.Semaphore:
    return threading.Semaphore(0)


def test_a_job_ends_with_its_pictures_on_disk_settings_inside(tmp_path: Path) -> None:
    with opened(tmp_path, PacedEngine) as jobs:
        view = the_end(jobs, jobs.submit(a_request(count=2), "ann", MODEL))
    assert (view.state, view.fraction, view.error) == (JobState.DONE, 1.0, None)
    assert [path.name.rpartition("-")[2] for path in view.paths] == ["7.png", "8.png"]
    settings = read_png(view.paths[1])
    assert settings is not None
    assert settings.request == a_request(seed=8)


def test_only_the_worker_thread_touches_an_engine(tmp_path: Path) -> None:
    openers, engines = set(), []

    def open_engine(folder: Path) -> PacedEngine:
        openers.add(threading.current_thread().name)
        engines.append(PacedEngine(folder))
        return engines[-1]

    with opened(tmp_path, open_engine) as jobs:
        running = [jobs.submit(a_request(seed=seed), "ann", MODEL) for seed in range(5)]
        assert all(the_end(jobs, job).state is JobState.DONE for job in running)
    assert openers == {"engine"} == engines[0].threads
    assert len(engines) == 1


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


AXES = (Axis("seed", (1, 2, 3)), Axis("steps", (2, 3)))


def test_a_comparison_draws_every_cell_and_a_sheet_with_its_axes_inside(tmp_path: Path) -> None:
    with opened(tmp_path, PacedEngine) as jobs:
        view = the_end(jobs, jobs.submit(a_request(), "ann", MODEL, comparison=Comparison(AXES, {})))
    assert (view.state, view.fraction, view.total) == (JobState.DONE, 1.0, 6)
    *drawn, sheet = view.paths
    found = {(read_png(path).request.seed, read_png(path).request.steps) for path in drawn}
    assert found == {(seed, steps) for seed in (1, 2, 3) for steps in (2, 3)}
    settings = read_png(sheet)
    assert settings.request == a_request()
    assert axes_from_json(settings.extra["axes"]) == list(AXES)
    with Image.open(sheet) as image:
        assert image.width > 3 * 96


def test_each_model_of_a_comparison_is_opened_once_and_draws_its_cells(tmp_path: Path) -> None:
    opened_models: list[Path] = []

    def open_engine(folder: Path) -> PacedEngine:
        opened_models.append(folder)
        return PacedEngine(folder)

    axes = (Axis("seed", (1, 2)), Axis("model", ("one", "two")))
    models = {"one": Path("m/one"), "two": Path("m/two")}
    with opened(tmp_path, open_engine, models_in_memory=1) as jobs:
        view = the_end(jobs, jobs.submit(a_request(), "ann", MODEL, comparison=Comparison(axes, models)))
    assert opened_models == [Path("m/one"), Path("m/two")]
    assert [read_png(path).model_name for path in view.paths[:4]] == ["one", "one", "two", "two"]


def test_a_comparison_that_is_stopped_keeps_its_pictures_and_a_sheet_of_them(
    tmp_path: Path, gate: threading.Semaphore
) -> None:
    with opened(tmp_path, lambda folder: PacedEngine(folder, gate)) as jobs:
        job = jobs.submit(a_request(), "ann", MODEL, comparison=Comparison(AXES, {}))
        gate.release(3)
        until(jobs, job, lambda view: view.request.steps == 3 and view.event is not None)
        jobs.cancel(job.id, "ann")
        gate.release()
        view = the_end(jobs, job)
    assert view.state is JobState.CANCELLED
    assert [path.stem.partition("-")[2] for path in view.paths] == ["1.1", "sheet"]


def test_an_interrupted_comparison_is_drawn_again_as_one(tmp_path: Path, gate: threading.Semaphore) -> None:
    with opened(tmp_path, lambda folder: PacedEngine(folder, gate)) as jobs:
        left = jobs.submit(a_request(), "ann", MODEL, comparison=Comparison(AXES, {"a": MODEL}))
    with opened(tmp_path, PacedEngine) as jobs:
        again = jobs.again(left.id, "ann")
        assert again.comparison == left.comparison
        assert len(the_end(jobs, again).paths) == 7


def test_a_comparison_with_a_cell_that_cannot_be_asked_for_is_refused_whole(tmp_path: Path) -> None:
    with opened(tmp_path, PacedEngine) as jobs:
        with pytest.raises(RequestError, match="steps must be"):
            jobs.submit(a_request(), "ann", MODEL, comparison=Comparison((Axis("steps", (3, 999)),), {}))
        assert jobs.active("ann") == []


def test_what_a_killed_server_left_can_be_drawn_again_once(tmp_path: Path, gate: threading.Semaphore) -> None:
    with opened(tmp_path, lambda folder: PacedEngine(folder, gate)) as jobs:
        left = jobs.submit(a_request("a ship", count=2), "ann", MODEL)
        other = jobs.submit(a_request("a tree"), "ann", MODEL)
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
        job = jobs.submit(a_request(steps=60), "ann", MODEL)
        views = list(jobs.watch(job, per_second=10))
    assert len(views) < 30
    assert views[-1].state is JobState.DONE
    assert [view.fraction for view in views] == sorted(view.fraction for view in views)
    estimates = [view.seconds_left for view in views if view.seconds_left is not None]
    assert estimates
    assert all(0 <= left < 30 for left in estimates)


def test_a_failure_is_told_and_the_next_job_works(tmp_path: Path) -> None:
    with opened(tmp_path, PacedEngine) as jobs:
        failed = the_end(jobs, jobs.submit(a_request("fail, please"), "ann", MODEL))
        refused = the_end(jobs, jobs.submit(a_request(width=1032), "ann", MODEL))
        assert the_end(jobs, jobs.submit(a_request(), "ann", MODEL)).state is JobState.DONE
    assert (failed.state, failed.paths) == (JobState.FAILED, ())
    assert "the numbers exploded" in (failed.error or "")
    assert refused.error == "No picture is wider than 1024 here."


def test_a_model_that_cannot_be_loaded_fails_its_job_only(tmp_path: Path) -> None:
    def open_engine(folder: Path) -> PacedEngine:
        if folder != MODEL:
            raise ModelError(f"there is no model folder {folder}")
        return PacedEngine(folder)

    with opened(tmp_path, open_engine) as jobs:
        assert the_end(jobs, jobs.submit(a_request(), "ann", MODEL)).state is JobState.DONE
        missing = the_end(jobs, jobs.submit(a_request(), "ann", Path("nowhere")))
        assert the_end(jobs, jobs.submit(a_request(), "ann", MODEL)).state is JobState.DONE
    assert (missing.state, missing.error) == (JobState.FAILED, "there is no model folder nowhere")


def test_few_models_stay_in_memory(tmp_path: Path) -> None:
    opened_folders = []

    def open_engine(folder: Path) -> PacedEngine:
        opened_folders.append(folder.name)
        return PacedEngine(folder)

    with opened(tmp_path, open_engine, models_in_memory=2) as jobs:
        for name in "abacab":
            the_end(jobs, jobs.submit(a_request(), "ann", Path(name)))
    assert "".join(opened_folders) == "abcb"  # a stays while it is used, b makes room for c


def test_a_model_that_a_training_replaced_is_loaded_anew(tmp_path: Path) -> None:
    folder, opened_folders = tmp_path / "run" / "model", []
    weights = folder / "unet" / "diffusion_pytorch_model.safetensors"
    weights.parent.mkdir(parents=True)
    weights.write_bytes(b"old")

    def open_engine(model: Path) -> PacedEngine:
        opened_folders.append(model)
        return PacedEngine(model)

    with opened(tmp_path, open_engine) as jobs:
        for change in (None, "same", "README", "new"):
            if change == "README":
                (folder / "README.md").write_text("words")
            if change == "new":
                newer = weights.with_name("writing")
                newer.write_bytes(b"new")
                newer.replace(weights)
            the_end(jobs, jobs.submit(a_request(), "ann", folder))
            assert len(opened_folders) == (2 if change == "new" else 1)
        assert len(jobs._engines._engines) == 1


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
    with opened(tmp_path, lambda folder: PacedEngine(folder, gate)) as jobs:
        running, waiting = (jobs.submit(a_request(steps=50), "ann", MODEL) for _ in range(2))
        until(jobs, running, lambda view: view.state is JobState.RUNNING)
        threading.Timer(0.2, gate.release).start()
        started = time.monotonic()
        jobs.close()
        assert time.monotonic() - started < 5
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


@pytest.mark.slow
def test_a_real_engine_draws_previews_and_pictures(tmp_path: Path, tiny_model_folder: Path) -> None:
    from app.stage import previews
    from pipelines.engine import LocalEngine

    with opened(tmp_path, lambda folder: LocalEngine(folder, "cpu")) as jobs:
        job = jobs.submit(a_request(steps=4, guidance_scale=2.0), "ann", tiny_model_folder)
        seen = until(jobs, job, lambda view: view.event is not None)
        shown = previews(seen)
        view = the_end(jobs, job)
    assert view.state is JobState.DONE, view.error
    assert shown[0].startswith("data:image/jpeg;base64,")


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
