"""Training from the page in a real browser: by servers that are killed, with real tiny models."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from app.trainings import ROOT, State, find
from pipelines.png import read_png
from tests.app.test_browser import DONE, overflow_pixels
from tests.training.training_data import picture
from training.process import process_of

pytestmark = pytest.mark.slow


@contextmanager
def studio(model: Path, outputs: Path) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """A server of its own process, as `python launch.py` starts it, and its address."""
    process = subprocess.Popen(
        [
            sys.executable,
            "launch.py",
            "ui",
            "--no-setup",
            "--no-browser",
            "--port",
            "0",
            "--model",
            str(model),
        ],
        cwd=ROOT,
        env=os.environ | {"LATENT_STUDIO_OUTPUTS": str(outputs)},
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    try:
        for line in process.stdout:
            if "ready" in line:
                yield line.split()[-1], process
                return
        pytest.fail("the server ended before it was ready")
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # all that is left in its session
        process.wait()
        process.stdout.close()


# A training does not begin to load before it may.
HOLD = """
import os, sys, time
if "train" in sys.orig_argv:
    while not os.path.exists(os.environ["MAY_TRAIN"]):
        time.sleep(0.05)
"""


def steps_done(run: Path) -> int:
    return len((run / "metrics.jsonl").read_text().splitlines())


def open_train(page: Any) -> None:
    page.get_by_role("tab", name="Train", exact=True).click()
    page.locator("#train-card .ls-training, #train-card .ls-note").first.wait_for()


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("LATENT_STUDIO_RUNS", str(tmp_path / "runs"))
    yield tmp_path / "runs"
    for run in (tmp_path / "runs").glob("*"):
        process = process_of(run)
        if process is not None:
            process.kill()


def test_a_training_outlives_its_page_and_server_and_is_drawn_from(
    visit: Callable[..., Any],
    runs: Path,
    tmp_path: Path,
    tiny_model_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pictures = tmp_path / "red things"
    for number in range(6):
        picture(pictures / f"thing {number}.png", colour=(200, 10 * number, 20), left="white")
    (pictures / "notes.png").write_text("no picture")
    (tmp_path / "hold").mkdir()
    (tmp_path / "hold" / "sitecustomize.py").write_text(HOLD)  # which Python runs before all else
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "hold"), prepend=os.pathsep)
    monkeypatch.setenv("MAY_TRAIN", str(tmp_path / "may-train"))

    with studio(tiny_model_folder, tmp_path / "out") as (url, server):
        page = visit(url, reduced_motion="reduce")
        open_train(page)
        page.locator("#train-card").get_by_text("Your training appears here").wait_for()
        page.get_by_label("Folder of pictures, or a .zip of one").fill(str(pictures))
        page.get_by_role("button", name="Look", exact=True).click()
        page.locator("#train-dataset .ls-used").wait_for()
        assert "6 pictures will be used" in page.locator("#train-dataset").inner_text()
        assert page.locator("#train-dataset img").count() == 6
        page.get_by_text("What is skipped, and why").click()
        page.get_by_text("notes.png").wait_for()

        page.get_by_role("button", name="How it is trained").click()
        page.get_by_label("Preset").click()
        page.get_by_role("option", name="tiny-diffusion").click()
        page.get_by_label("Other settings").fill(
            "training.batch_size=4\ntraining.log_every_steps=1\ncheckpoints.every_steps=20\n"
            "training.sample_every_steps=40"
        )
        page.get_by_label("Counted in").click()
        page.get_by_role("option", name="steps", exact=True).click()
        page.get_by_label("For how long").fill("1000000")
        page.get_by_role("button", name="Start training").click()
        page.locator('#train-card [data-state="starting"]').wait_for()
        (tmp_path / "may-train").touch()
        page.locator('#train-card [data-state="running"]').wait_for(timeout=600_000)
        page.locator("#train-plots polyline").first.wait_for()
        page.locator("#train-samples img").first.wait_for(timeout=600_000)
        assert "pictures a second" in page.locator("#train-card").inner_text()
        assert "left" in page.locator("#train-card").inner_text()
        assert overflow_pixels(page) <= 0
        (run,) = [folder for folder in runs.iterdir() if folder.name.endswith("red-things")]
        page.context.close()
        before = steps_done(run)
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()

    deadline = time.monotonic() + 300
    while steps_done(run) < before + 5:  # nobody looks, and it goes on
        assert time.monotonic() < deadline
        time.sleep(0.2)

    with studio(tiny_model_folder, tmp_path / "out") as (url, _):
        page = visit(url, width=375, color_scheme="dark", reduced_motion="reduce")
        open_train(page)
        card = page.locator("#train-card .ls-training")
        page.locator('#train-card [data-state="running"]').wait_for()
        assert run.name in card.inner_text()
        shown = card.inner_text()
        page.wait_for_function(
            f"!document.querySelector('#train-card').innerText.includes({shown!r})"
        )  # it moves
        assert overflow_pixels(page) <= 0

        page.get_by_role("button", name="Pause").click()
        page.locator('#train-card [data-state="paused"]').wait_for(timeout=600_000)
        assert process_of(run) is None
        training = find(run.name)
        assert training is not None
        assert training.state is State.PAUSED
        newest = max(int(one.name.removeprefix("step-")) for one in run.glob("checkpoints/step-*[0-9]"))
        assert steps_done(run) >= newest > before

        page.get_by_role("button", name="Go on").click()
        page.locator('#train-card [data-state="running"]').wait_for(timeout=600_000)
        page.get_by_role("button", name="Try this checkpoint now").click()
        page.locator("#stage").wait_for(state="visible")
        page.get_by_label("number input for Steps").fill("2")
        page.get_by_label("Prompt", exact=True).fill("a red thing")
        page.get_by_role("button", name="Generate", exact=True).click()
        page.locator(f"#stage {DONE}").wait_for(timeout=600_000)
        (drawn,) = (tmp_path / "out").glob("[0-9]*/*.png")
        settings = read_png(drawn)
        assert settings is not None
        assert settings.model_name == run.name

        while f"resumed from step {newest}" not in (run / "output.log").read_text():
            assert process_of(run) is not None
            time.sleep(0.2)
        open_train(page)
        page.get_by_role("button", name="Stop", exact=True).last.click()
        page.locator('#train-card [data-state="stopped"]').wait_for(timeout=600_000)
        page.context.close()  # before its server is
