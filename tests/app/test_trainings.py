"""Trainings as processes: found by their folders, never mistaken for others, gone on with to the bit."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from app import trainings
from app.trainings import State, find, last_words, new_run, resume, start, stop
from models.errors import RequestError
from tests.training.processes import trained
from tests.training.training_data import picture
from training.process import PROCESS, note_process, process_of

STEPS = 8  # of a training that is paused after the third
# In the place of launch.py: a training waits after its third step until it may go on.
LAUNCH = f"""
import sys, time
sys.path.insert(0, {str(trainings.ROOT)!r})
import launch
from training.run import Run

log = Run.log

def log_and_wait(run, metrics):
    log(run, metrics)
    while metrics["step"] == 3 and not (run.folder / "may go on").exists():
        time.sleep(0.01)

Run.log = log_and_wait
sys.exit(launch.main(sys.argv[1:]))
"""
SLEEPER = [sys.executable, "-c", "import time; time.sleep(600)"]


@pytest.fixture(autouse=True)
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LATENT_STUDIO_RUNS", str(tmp_path / "runs"))
    (tmp_path / "runs").mkdir()
    return tmp_path / "runs"


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(SLEEPER)
    yield process
    process.kill()
    process.wait()


def a_run(runs: Path, **files: str) -> Path:
    """A run folder with a denoiser's settings and these files, whose dots are written as `__`."""
    folder = runs / "one"
    folder.mkdir()
    (folder / "config.toml").write_text("[model]\n[training]\nsteps = 9\n")
    for name, content in files.items():
        (folder / name.replace("__", ".")).write_text(content)
    return folder


def state_of(folder: Path) -> State:
    found = find(folder.name)
    assert found is not None
    return found.state


def test_a_process_is_known_by_its_number_and_when_it_began(
    runs: Path, sleeper: subprocess.Popen[bytes]
) -> None:
    folder = a_run(runs)
    note_process(folder, sleeper.pid)
    assert process_of(folder) == psutil.Process(sleeper.pid)
    assert state_of(folder) is State.STARTING
    noted = json.loads((folder / PROCESS).read_text())
    (folder / PROCESS).write_text(json.dumps(noted | {"trains": True}))  # as it does once it is ready
    assert state_of(folder) is State.RUNNING
    sleeper.kill()
    while psutil.Process(sleeper.pid).status() != psutil.STATUS_ZOMBIE:
        time.sleep(0.01)
    assert process_of(folder) is None  # dead, though its number is not free yet
    sleeper.wait()
    assert process_of(folder) is None


@pytest.mark.parametrize(
    "changes",
    [{"began": 1.0}, {"machine": "another"}, {"pid": -1}, {"pid": 2**70}, {"pid": "1"}, {"pid": None}],
)
def test_another_process_of_the_same_number_is_never_stopped(
    runs: Path, sleeper: subprocess.Popen[bytes], changes: dict[str, object]
) -> None:
    folder = a_run(runs)
    note_process(folder, sleeper.pid)
    noted = json.loads((folder / PROCESS).read_text())
    (folder / PROCESS).write_text(json.dumps(noted | changes))
    training = find("one")
    assert training is not None
    assert training.state not in trainings.LIVE
    stop(training, State.STOPPED)
    time.sleep(0.3)
    assert sleeper.poll() is None


def test_a_second_wish_to_stop_does_not_end_the_step_at_hand(runs: Path) -> None:
    """A training ends at once on its second SIGTERM, so it must be sent one alone."""
    folder = a_run(runs)
    count = (
        "import signal, time\nseen = []\n"
        "signal.signal(signal.SIGTERM, lambda *_: (seen.append(1), print(len(seen), flush=True)))\n"
        "print('ready', flush=True)\nwhile True: time.sleep(0.05)"
    )
    process = subprocess.Popen([sys.executable, "-c", count], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        note_process(folder, process.pid)
        for said in ("1\n", None):
            training = find("one")
            assert training is not None
            stop(training, State.PAUSED)
            assert said is None or process.stdout.readline() == said
        time.sleep(0.3)  # for a second one to arrive
        assert state_of(folder) is State.STOPPING
    finally:
        process.kill()
        more, _ = process.communicate()
    assert more == ""
    assert state_of(folder) is State.PAUSED


@pytest.mark.parametrize(
    ("files", "state"),
    [
        ({"finished__json": "{}"}, State.FINISHED),
        ({}, State.STOPPED),  # from the command line
        ({"output__log": "x\nstopped after step 7; the same command goes on from there\n"}, State.STOPPED),
        ({"output__log": "", "stop-asked__txt": "paused"}, State.PAUSED),
        ({"output__log": "", "stop-asked__txt": "stopped"}, State.STOPPED),
        ({"output__log": "the disk is full\n"}, State.FAILED),
        ({"output__log": ""}, State.FAILED),
    ],
)
def test_how_a_training_ended_stands_in_its_folder(runs: Path, files: dict[str, str], state: State) -> None:
    folder = a_run(runs, **files)
    assert state_of(folder) is state
    training = find("one")
    assert training is not None
    assert training.can_go_on == (state is not State.FINISHED)
    assert training.stage == "diffusion"


def test_its_last_words_are_no_progress_bar_and_nothing_for_a_terminal(tmp_path: Path) -> None:
    file = tmp_path / "output.log"
    bars = "\r  3%|▎    | 3/100 [00:01<00:40,  2.4step/s]\rlooking at pictures: 12 files [00:00, 99 files/s]"
    file.write_text(f"{'x' * 20000}\na sentence \x1b[31mwith colour\n{bars}\n")
    assert last_words(file) == "a sentence [31mwith colour"
    file.write_text(bars)
    assert last_words(file) == ""
    assert last_words(tmp_path / "nothing") is None


@pytest.mark.parametrize(
    "name", ["", ".", "..", "../runs/one", "/etc", "one/", "one\0", "C:one", "a\\b", "x" * 999, "One"]
)
def test_no_name_leads_out_of_the_runs_folder(runs: Path, name: str) -> None:
    a_run(runs)
    assert find("one") is not None
    assert find(name) is None


def test_a_link_and_a_folder_that_is_no_run_are_not_listed(runs: Path, tmp_path: Path) -> None:
    folder = a_run(runs)
    elsewhere = tmp_path / "elsewhere"
    folder.rename(elsewhere)
    (runs / "link").symlink_to(elsewhere)
    (runs / "cache").mkdir()
    assert trainings.trainings() == []
    assert find("link") is None


def test_two_trainings_of_one_name_get_two_folders(runs: Path) -> None:
    first, second = new_run("cats"), new_run("cats")
    assert first != second
    assert {first.parent, second.parent} == {runs}
    for name in ("../cats", "", "a b", ".hidden", "x" * 61, "a/b", "cats\n"):
        with pytest.raises(RequestError, match="name of a training"):
            new_run(name)


def test_what_runs_or_is_done_is_not_started_again(runs: Path, sleeper: subprocess.Popen[bytes]) -> None:
    folder = a_run(runs)
    training = find("one")
    note_process(folder, sleeper.pid)
    assert training is not None
    with pytest.raises(RequestError, match="already"):
        start(["diffusion", "--config", "tiny-diffusion"], folder)
    running = find("one")
    assert running is not None
    with pytest.raises(RequestError, match="gone on with"):
        resume(running)


def wait_until(folder: Path, *states: State, step: int = 0) -> State:
    deadline = time.monotonic() + 300
    while True:
        assert time.monotonic() < deadline, (folder / "output.log").read_text()
        state = state_of(folder)
        file = folder / "metrics.jsonl"
        if state in states and (not step or (file.exists() and f'"step": {step},' in file.read_text())):
            return state
        time.sleep(0.2)


@pytest.mark.slow
def test_a_training_paused_and_gone_on_with_ends_as_one_that_never_was(
    runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # as the training it is compared with has
    (tmp_path / "launch.py").write_text(LAUNCH)
    monkeypatch.setattr(trainings, "ROOT", tmp_path)
    for number in range(6):
        picture(tmp_path / f"pictures/{number}.png", colour=(40 * number, 90, 120), left="white")
    settings = {
        "data.path": tmp_path / "pictures", "training.steps": STEPS, "training.batch_size": 4,
        "training.log_every_steps": 1, "training.sample_every_steps": 0,
    }  # fmt: skip
    words = [f"--set={key}={value}" for key, value in settings.items()]
    run = new_run("cats")
    start(["autoencoder", "--config", "tiny-autoencoder", *words], run)
    assert os.getsid(process_of(run).pid) != os.getsid(0)  # type: ignore[union-attr]
    wait_until(run, State.RUNNING, step=3)
    training = find(run.name)
    assert training is not None
    stop(training, State.PAUSED)
    (run / "may go on").touch()
    assert wait_until(run, State.PAUSED, State.FAILED, State.FINISHED) is State.PAUSED
    assert list(run.glob("checkpoints/step-*/manifest.json"))
    paused = find(run.name)
    assert paused is not None
    resume(paused)
    assert wait_until(run, State.FAILED, State.FINISHED) is State.FINISHED
    assert "resumed from step" in (run / "output.log").read_text()
    trained("autoencoder", tmp_path / "whole", **settings)
    for file in (tmp_path / "whole").glob(f"checkpoints/step-{STEPS}/*"):
        assert file.read_bytes() == (run / f"checkpoints/step-{STEPS}" / file.name).read_bytes()


@pytest.mark.slow
def test_a_training_that_cannot_begin_says_why(runs: Path, tmp_path: Path) -> None:
    run = new_run("cats")
    start(["autoencoder", "--config", "tiny-autoencoder", f"--set=data.path={tmp_path / 'nowhere'}"], run)
    assert wait_until(run, State.FAILED) is State.FAILED
    training = find(run.name)
    assert training is not None
    assert "nowhere is not a folder" in training.message
    assert training.can_go_on  # as it was asked for, once the folder is there


def test_a_killed_training_is_known_as_failed(runs: Path, sleeper: subprocess.Popen[bytes]) -> None:
    folder = a_run(runs, output__log="denoiser of 1 M parameters\n")
    note_process(folder, sleeper.pid)
    sleeper.send_signal(signal.SIGKILL)
    sleeper.wait()
    assert state_of(folder) is State.FAILED


def test_a_training_paused_while_it_loads_says_so_and_begins_when_it_goes_on(
    runs: Path, sleeper: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    from app import text
    from app.training_view import card

    folder = runs / "loading"
    folder.mkdir()
    arguments = ["diffusion", "--config", "tiny-diffusion", "--set=data.path=somewhere"]
    (folder / "started.json").write_text(json.dumps(arguments))
    note_process(folder, sleeper.pid)
    loading = find("loading")
    assert loading is not None
    stop(loading, State.PAUSED)
    sleeper.wait()
    paused = find("loading")
    assert paused is not None
    assert (paused.state, paused.stage, paused.can_go_on) == (State.PAUSED, "diffusion", True)
    assert text.TRAIN_NOT_BEGUN in card(paused)
    begun: list[list[str]] = []
    monkeypatch.setattr(trainings, "start", lambda words, run: begun.append(list(words)))
    resume(paused)
    assert begun == [arguments]


def test_a_training_paused_after_a_step_does_not_say_that_nothing_was_trained(runs: Path) -> None:
    from app import text
    from app.training_view import card

    folder = a_run(runs, output__log="", **{"stop-asked__txt": "paused"})
    (folder / "metrics.jsonl").write_text('{"step": 3, "loss": 0.5}\n')
    paused = find("one")
    assert paused is not None
    assert text.TRAIN_NOT_BEGUN not in card(paused)
