"""Memory that runs out in the worker, and memory that stays level while models change places."""

import json
import subprocess
import sys
import weakref
from pathlib import Path

import pytest

from app.job import JobState
from pipelines.memory import OutOfMemoryError
from tests.app.engines import PacedEngine, a_request
from tests.app.queues import opened, the_end
from tests.app.test_stop_memory import resident_bytes
from tests.newcomer import ROOT

SWITCHES = 50
CHILD = """
import json, resource, sys
from pathlib import Path
from app.job import JobState
from pipelines.local_engine import LocalEngine
from tests.app.engines import a_request
from tests.app.queues import opened, the_end

folder, model = map(Path, sys.argv[1:])
said = []
with opened(folder, lambda path: LocalEngine(path, "cpu")) as jobs:
    def draw(side):
        view = the_end(jobs, jobs.submit(a_request(width=side, height=side, steps=1), "ann", model))
        said.append([side, view.state, view.error])
    draw(64)
    used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + 200 * 2**20, resource.RLIM_INFINITY))
    draw(2048)
    draw(64)
    draw(128)
print(json.dumps(said))
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="only Linux holds a process to an address space")
def test_a_picture_too_large_for_memory_is_refused_in_words_and_the_next_smaller_one_drawn(
    tmp_path: Path, tiny_model_folder: Path
) -> None:
    answer = subprocess.run(
        [sys.executable, "-c", CHILD, tmp_path, tiny_model_folder], cwd=ROOT, capture_output=True, text=True
    )
    assert answer.returncode == 0, answer.stderr
    said = json.loads(answer.stdout.splitlines()[-1])
    assert [(side, state) for side, state, _ in said] == [
        (64, "done"), (2048, "failed"), (64, "done"), (128, "done"),
    ], said  # fmt: skip
    for side, state, error in said:
        if state == "failed":
            assert "not enough memory" in error
            assert "choose a smaller size" in error
            assert f"{side} x {side}" in error
    assert "Traceback" not in answer.stderr


def test_a_model_larger_than_memory_is_refused_before_it_is_read(
    tiny_model_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pipelines import placement
    from pipelines.local_engine import LocalEngine

    monkeypatch.setattr(placement, "free_memory_bytes", lambda: 1000)
    with pytest.raises(OutOfMemoryError, match=f"{tiny_model_folder.name}.*choose a smaller model"):
        LocalEngine(tiny_model_folder, "cpu")


def test_other_models_leave_memory_for_the_one_that_is_asked_for(tmp_path: Path) -> None:
    in_memory: list[weakref.ref[PacedEngine]] = []

    def open_engine(folder: Path) -> PacedEngine:
        if folder.name == "large" and any(engine() is not None for engine in in_memory):
            raise OutOfMemoryError("There is not enough memory for large.")
        engine = PacedEngine(folder)
        in_memory.append(weakref.ref(engine))
        return engine

    with opened(tmp_path, open_engine) as jobs:
        for name in ("small", "large"):
            view = the_end(jobs, jobs.submit(a_request(), "ann", tmp_path / name))
            assert view.state is JobState.DONE, view.error


@pytest.mark.slow
@pytest.mark.parametrize("runner", ["torch", "openvino"])
def test_models_that_change_places_fifty_times_leave_memory_where_it_was(
    runner: str, graphs_apart: None, tmp_path: Path, tiny_model_folder: Path, taught_model_folder: Path
) -> None:
    from pipelines.local_engine import LocalEngine

    opened_engines, found = [], []

    def open_engine(folder: Path) -> LocalEngine:
        opened_engines.append(folder)
        return LocalEngine(folder, "cpu", runner=runner)

    with opened(tmp_path, open_engine, models_in_memory=1) as jobs:
        for switch in range(SWITCHES + 6):
            model = (tiny_model_folder, taught_model_folder)[switch % 2]
            assert the_end(jobs, jobs.submit(a_request(), "ann", model)).state is JobState.DONE
            found.append(resident_bytes())
    assert len(opened_engines) == SWITCHES + 6
    first, last = max(found[4:6]), max(found[-2:])  # the first ones fill caches
    print(f"memory on {runner}: {first / 2**20:.0f} MiB, after {SWITCHES} switches {last / 2**20:.0f} MiB")
    assert last < 1.1 * first
