import threading
from pathlib import Path

import pytest
from PIL import Image

from app.comparison import Comparison
from app.job import JobState
from models.errors import RequestError
from pipelines.compare.axes import Axis, axes_from_json
from pipelines.png import read_png
from tests.app.engines import PacedEngine, a_request
from tests.app.queues import MODEL, close_amid_a_step, opened, the_end, until

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
        close_amid_a_step(jobs, gate)
    with opened(tmp_path, PacedEngine) as jobs:
        again = jobs.again(left.id, "ann")
        assert again.comparison == left.comparison
        assert len(the_end(jobs, again).paths) == 7


def test_a_comparison_with_a_cell_that_cannot_be_asked_for_is_refused_whole(tmp_path: Path) -> None:
    with opened(tmp_path, PacedEngine) as jobs:
        with pytest.raises(RequestError, match="steps must be"):
            jobs.submit(a_request(), "ann", MODEL, comparison=Comparison((Axis("steps", (3, 999)),), {}))
        assert jobs.active("ann") == []
