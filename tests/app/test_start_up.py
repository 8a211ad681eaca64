"""How fast a start is, and what it does without: torch, until a picture needs it."""

import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import psutil
import pytest

from app import text
from app.context import open_context
from app.job import JobState
from app.settings import Settings
from tests.app.engines import PacedEngine, a_request
from tests.app.queues import opened, the_end
from tests.newcomer import ROOT, run_code

HEAVY = ("torch", "gradio", "diffusers", "transformers", "pandas", "scipy", "matplotlib", "peft")


def loaded_by(code: str, *names: str) -> set[str]:
    """Which of the packages a new Python has in memory after a piece of code."""
    answer = run_code(f"{code}\nprint([name for name in {names!r} if name in sys.modules])", ROOT)
    assert answer.returncode == 0, answer.stderr
    return set(json.loads(answer.stdout.splitlines()[-1].replace("'", '"')))


@pytest.mark.parametrize(
    "words",
    [
        ["--help"],
        ["generate", "--help"],
        ["train", "diffusion", "--help"],
        ["--port", "http"],
        ["nonsense"],
        ["--host", "0.0.0.0"],
        ["generate", "a cat", "--steps", "many"],
        ["generate", "a cat", "--model", "no/such/model"],
    ],
    ids=" ".join,
)
def test_help_and_refusals_load_no_heavy_package(words: list[str]) -> None:
    code = f"""
try:
    print(launch.main([*{words!r}, "--no-setup"]))
except SystemExit:
    pass"""
    assert loaded_by(code, *HEAVY) == set()


@pytest.mark.slow
def test_the_page_is_built_without_torch() -> None:
    networks = tuple(name for name in HEAVY if name not in ("gradio", "pandas"))  # Gradio imports pandas
    assert loaded_by("import app.context, app.page, pipelines.inputs", *networks, "accelerate") == set()


class Device:
    """An engine that says what it draws on, as the local one does."""

    device = "cuda:0"


def test_the_page_says_that_the_model_is_loading_and_then_on_what_it_draws(
    tiny_model_folder: Path, tmp_path: Path
) -> None:
    from app.page import _header, _header_when_loaded

    go_on = threading.Event()

    def open_engine(folder: Path) -> Device:
        go_on.wait(60)
        return Device()

    context = open_context([tiny_model_folder], open_engine, settings=Settings(outputs=tmp_path))  # type: ignore[arg-type]
    try:
        context.jobs.load(tiny_model_folder)
        headers = _header_when_loaded(context, None)
        assert f"{text.LOADING}…" in next(headers)
        go_on.set()
        assert "· CUDA:0<" in next(headers)
        assert list(headers) == []
        assert text.LOADING not in _header(context)
    finally:
        go_on.set()
        context.close()


def test_a_job_that_comes_while_the_model_loads_is_drawn_by_it(tmp_path: Path) -> None:
    go_on, opened_folders = threading.Event(), []

    def open_engine(folder: Path) -> PacedEngine:
        go_on.wait(60)
        opened_folders.append(folder)
        return PacedEngine(folder)

    with opened(tmp_path, open_engine) as jobs:
        jobs.load(tmp_path / "model")
        job = jobs.submit(a_request(), "ann", tmp_path / "model")
        assert jobs.view(job).position == 0  # none is before it, the page says that the model loads
        go_on.set()
        assert the_end(jobs, job).state is JobState.DONE
        jobs.wait_until_loaded()
    assert opened_folders == [tmp_path / "model"]


def test_a_model_that_cannot_be_loaded_fails_the_job_and_not_the_server(tmp_path: Path) -> None:
    def open_engine(folder: Path) -> PacedEngine:
        if folder.name == "bad":
            raise OSError("no such weights")
        return PacedEngine(folder)

    with opened(tmp_path, open_engine) as jobs:
        jobs.load(tmp_path / "bad")
        jobs.wait_until_loaded()
        assert not jobs.loading
        assert the_end(jobs, jobs.submit(a_request(), "ann", tmp_path / "bad")).state is JobState.FAILED
        assert the_end(jobs, jobs.submit(a_request(), "ann", tmp_path / "good")).state is JobState.DONE


@pytest.mark.slow
def test_the_page_is_up_within_twelve_seconds_of_two_cores(tmp_path: Path, tiny_model_folder: Path) -> None:
    """In CPU time, which other work on this machine does not stretch: a start is busy on one core."""
    command = [sys.executable, ROOT / "launch.py", "--no-setup", "--no-browser", "--port", "0"]
    command += ["--model", tiny_model_folder]
    environment = os.environ | {"LATENT_STUDIO_OUTPUTS": str(tmp_path), "OMP_NUM_THREADS": "1"}
    for _ in range(3):  # a core that does other things, too, is not as fast at all times
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment, cwd=ROOT) as page:
            assert page.stdout is not None
            assert "is ready" in page.stdout.readline()
            taken = psutil.Process(page.pid).cpu_times()
            page.terminate()
        print(f"the page was up after {taken.user + taken.system:.1f} CPU seconds")
        if taken.user + taken.system < 12:
            return
    pytest.fail("it took more each time")
