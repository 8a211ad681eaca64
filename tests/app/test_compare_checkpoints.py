"""A comparison of a run's checkpoints, drawn by the real engine from their averaged weights."""

import shutil
from pathlib import Path

import gradio as gr
import pytest
from PIL import Image

from app.comparison import Comparison
from app.context import open_context
from app.job import JobState
from app.settings import Settings
from app.tabs.compare import CompareTab
from app.tabs.generate import GenerateTab
from models.errors import RequestError
from models.folder import model_id
from pipelines.compare.axes import axes_from_json
from pipelines.local_engine import LocalEngine
from pipelines.png import read_png
from tests.app.engines import a_request
from tests.app.queues import opened, the_end
from tests.tiny import make_tiny_run
from training.export import export_checkpoint


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LATENT_STUDIO_RUNS", str(tmp_path / "runs"))
    return make_tiny_run(tmp_path / "runs" / "circles", [5, 10])


@pytest.fixture
def comparison(run: Path, tiny_model_folder: Path, tmp_path: Path) -> Comparison:
    context = open_context([tiny_model_folder], LocalEngine, settings=Settings(outputs=tmp_path / "page"))
    with gr.Blocks(analytics_enabled=False):
        tab = CompareTab(context, GenerateTab(context))
    made = tab.comparison([("checkpoint", "circles: all"), ("seed", "1, 2"), ("", "")])
    with pytest.raises(RequestError, match="no checkpoint of step 7; there is 5, 10"):
        tab.comparison([("checkpoint", "circles: 5, 7")])
    context.close()
    return made


def test_each_cell_is_drawn_by_its_checkpoint_and_nothing_is_left(
    comparison: Comparison, run: Path, tmp_path: Path
) -> None:
    folders = [export_checkpoint(run, step, tmp_path / "expected") for step in (5, 10)]
    request = a_request(width=32, height=32, steps=2)
    again = Comparison.from_json(comparison.to_json())  # as a row of the database keeps it
    with opened(tmp_path / "out", lambda folder: LocalEngine(folder, "cpu")) as jobs:
        view = the_end(jobs, jobs.submit(request, "ann", run / "model", comparison=again))
    assert (view.state, view.error) == (JobState.DONE, None)
    *drawn, sheet = view.paths
    named = [(read_png(path).model_name, read_png(path).model_id) for path in drawn]
    expected = [(folder.name, model_id(folder)) for folder in folders]
    assert named == [expected[0], expected[0], expected[1], expected[1]]
    assert expected[0][0] == "circles-step-5"
    assert len({Image.open(path).tobytes() for path in drawn}) == 4
    (axis, _) = axes_from_json(read_png(sheet).extra["axes"])
    assert [axis.label(number) for number in range(2)] == ["5", "10"]
    assert list((run.parent / "cache" / "compared").iterdir()) == []


def test_a_checkpoint_that_training_has_deleted_meanwhile_is_named_and_the_rest_kept(
    comparison: Comparison, run: Path, tmp_path: Path
) -> None:
    shutil.rmtree(run / "checkpoints" / "step-10")
    request = a_request(width=32, height=32, steps=2)
    with opened(tmp_path / "out", lambda folder: LocalEngine(folder, "cpu")) as jobs:
        view = the_end(jobs, jobs.submit(request, "ann", run / "model", comparison=comparison))
    assert view.state is JobState.FAILED
    assert "no whole checkpoint of step 10; there is 5" in str(view.error)
    assert len(view.paths) == 3  # two pictures and the sheet of them
    assert list((run.parent / "cache" / "compared").iterdir()) == []
