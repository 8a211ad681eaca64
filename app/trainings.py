"""Trainings as processes of their own, found again by their run folders alone."""

import json
import os
import re
import subprocess
import sys
import threading
import time
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from pathlib import Path
from typing import Any

import psutil

from app import text
from models.errors import RequestError
from models.names import why_no_name
from models.writing import write_bytes
from training.process import PROCESS, note_process, process_of, trains
from training.runs import FINISHED, runs_folder

ROOT = Path(__file__).resolve().parents[1]
OUTPUT = "output.log"  # what the process printed, of all its starts
STARTED = "started.json"  # the arguments of its first start
ASKED = "stop-asked.txt"  # how the page asked the process to end, until it is started again
LAST_BYTES = 8192
# Stages by the section of a configuration that no other stage has.
STAGES = {"distill": "distill", "autoencoder": "autoencoder", "model": "diffusion"}
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,59}")
PROGRESS_BAR = re.compile(r"\[\d+:\d\d[<,:]")  # how long it has been going on

_starting = threading.Lock()
_children: list[subprocess.Popen[bytes]] = []  # asked how they are, so that ended ones do not stay as zombies


class State(StrEnum):
    """Where a training stands."""

    STARTING = "starting"
    RUNNING = "running"
    STOPPING = "stopping"
    PAUSED = "paused"
    STOPPED = "stopped"
    FAILED = "failed"
    FINISHED = "finished"


LIVE = (State.STARTING, State.RUNNING, State.STOPPING)


@dataclass(frozen=True, slots=True, kw_only=True)
class Training:
    """A run folder as it stands now; `message` is what a failed one said last."""

    folder: Path
    state: State
    message: str = ""

    @property
    def name(self) -> str:
        """The folder's name."""
        return self.folder.name

    @property
    def config(self) -> dict[str, dict[str, Any]]:
        """Its settings by section, empty before it has written them."""
        file = self.folder / "config.toml"
        return _read_config(file, file.stat().st_mtime_ns) if file.is_file() else {}

    @property
    def stage(self) -> str:
        """The word after `train` that it was started by, "" while that is not known."""
        config, started = self.config, started_with(self.folder)
        if not config and started:  # it ended before it wrote them
            return "diffusion" if started[0] == "teach" else started[0]
        return next((stage for section, stage in STAGES.items() if section in config), "")

    @property
    def can_go_on(self) -> bool:
        """Whether `resume` would start it again."""
        return self.state in (State.PAUSED, State.STOPPED, State.FAILED) and self.stage != ""

    @property
    def model(self) -> Path | None:
        """The model of its newest checkpoint, where it draws pictures."""
        folder = self.folder / "model"
        return folder if (folder / "model_index.json").is_file() else None

    @property
    def autoencoder(self) -> Path | None:
        """The folder whose vae/ is that of its newest checkpoint."""
        folder = self.folder / "model"
        return folder if (folder / "vae" / "config.json").is_file() else None


def start(arguments: Sequence[str], run: Path) -> None:
    """Start `launch.py train ARGUMENTS --run RUN` as a process of its own, which outlives page and server.

    `arguments` begin with the stage: `["diffusion", "--config", "teach", "--set", "data.path=…"]`; paths in
    them are absolute. `run` is a folder from `new_run`, or of a training that ended. What the process says
    goes to `output.log` there. `find(run.name)` tells how it stands, now and after a restart of the server;
    `stop` and `resume` take what that returns.

    Raises: RequestError where a training runs in that folder already.
    """
    command = [sys.executable, str(ROOT / "launch.py"), "train", *arguments, "--run", str(run.absolute())]
    # The words of a training are read as they come, also by whoever opens its file.
    environment = os.environ | {"LATENT_STUDIO_RUNS": str(runs_folder().absolute()), "PYTHONUNBUFFERED": "1"}
    with _starting:
        if process_of(run) is not None:
            raise RequestError(text.TRAIN_RUNS_ALREADY.format(name=run.name))
        run.mkdir(parents=True, exist_ok=True)
        (run / ASKED).unlink(missing_ok=True)
        if not (run / STARTED).exists():
            write_bytes(run / STARTED, json.dumps(list(arguments)).encode())
        with (run / OUTPUT).open("ab") as output:
            flags = 0
            if sys.platform == "win32":
                flags = subprocess.CREATE_NEW_PROCESS_GROUP | subprocess.CREATE_NO_WINDOW
            process = subprocess.Popen(  # noqa: S603
                [*command, "--no-setup"],
                cwd=ROOT,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # the terminal's Ctrl+C and end are the server's alone
                creationflags=flags,
            )
        _children.append(process)
        note_process(run, process.pid)


def check_name(name: str) -> None:
    """RequestError unless a training's folder can be called so on every system."""
    if NAME.fullmatch(name) is None or why_no_name(name) is not None:
        raise RequestError(text.TRAIN_BAD_NAME.format(name=name[:80]))


def new_run(name: str) -> Path:
    """A new, empty run folder for a training of this name; RequestError where it cannot be a folder's."""
    check_name(name)
    stem, number = f"{time.strftime('%Y-%m-%d')}-{name}", 1
    runs_folder().mkdir(parents=True, exist_ok=True)
    while True:
        folder = runs_folder() / (stem if number == 1 else f"{stem}-{number}")
        try:
            folder.mkdir()
        except FileExistsError:
            number += 1
        else:
            return folder


def trainings() -> list[Training]:
    """Every training in the runs folder, the newest first."""
    return [_look_at(folder) for folder in sorted(_folders().values(), key=_begun, reverse=True)]


def find(name: str) -> Training | None:
    """The training of this name, None where the runs folder has none; no name leads out of that folder."""
    folder = _folders().get(name)
    return None if folder is None else _look_at(folder)


def stop(training: Training, asked: State) -> None:
    """Have a training end after the step at hand, with a checkpoint, as PAUSED or STOPPED; else do nothing.

    SIGTERM, as the command line knows it. Where there is no such thing (Windows) it ends at once, and goes on
    from its newest checkpoint.
    """
    process = process_of(training.folder)
    if process is None or (training.folder / ASKED).exists():  # a second SIGTERM would not wait for the step
        return
    (training.folder / ASKED).write_text(asked, encoding="utf-8")
    try:
        process.terminate()  # which looks once more whether it is the same process
    except psutil.Error:
        return  # it ended meanwhile


def resume(training: Training) -> None:
    """Start a training again with its own settings; RequestError where it runs, is done, or has none."""
    if not training.can_go_on:
        raise RequestError(text.TRAIN_CANNOT_GO_ON.format(name=training.name))
    arguments = started_with(training.folder)
    # Teaching goes on with its own settings, and writes a LoRA again; some ended before they wrote any.
    if arguments[:1] == ["teach"] or not training.config:
        start(arguments, training.folder)
        return
    start([training.stage, "--config", str((training.folder / "config.toml").absolute())], training.folder)


def _look_at(folder: Path) -> Training:
    try:
        asked = (folder / ASKED).read_text(encoding="utf-8")
    except OSError:
        asked = ""
    if process_of(folder) is not None:
        working = State.RUNNING if trains(folder) else State.STARTING
        return Training(folder=folder, state=State.STOPPING if asked else working)
    if (folder / FINISHED).exists():
        return Training(folder=folder, state=State.FINISHED)
    words = last_words(folder / OUTPUT)
    if asked or words is None or words.startswith("stopped after step"):
        state = State.PAUSED if asked == State.PAUSED else State.STOPPED
        return Training(folder=folder, state=state)
    return Training(folder=folder, state=State.FAILED, message=words or text.TRAIN_NO_WORDS)


def started_with(folder: Path) -> list[str]:
    """The arguments of a training's first start; none for one that the page did not start."""
    try:
        arguments: list[str] = json.loads((folder / STARTED).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return []
    return arguments


def last_words(file: Path) -> str | None:
    """The last line of what a process printed, progress bars aside; None where there is no such file."""
    try:
        with file.open("rb") as output:
            output.seek(max(0, file.stat().st_size - LAST_BYTES))
            said = output.read().decode("utf-8", "replace")
    except OSError:
        return None
    lines = [line.strip() for line in re.split(r"[\r\n]", said)]
    spoken = [line for line in lines if line and PROGRESS_BAR.search(line) is None]
    return "".join(c for c in spoken[-1] if c.isprintable()) if spoken else ""


def _folders() -> dict[str, Path]:
    """The run folders by name; a link is none, since it may lead anywhere."""
    _children[:] = [child for child in _children if child.poll() is None]
    try:
        below = [folder for folder in runs_folder().iterdir() if folder.is_dir() and not folder.is_symlink()]
    except OSError:
        return {}
    files = ("config.toml", PROCESS)
    return {folder.name: folder for folder in below if any((folder / name).is_file() for name in files)}


def _begun(folder: Path) -> float:
    file = folder / "environment.json"  # written once, when it began
    return (file if file.exists() else folder).stat().st_mtime


@lru_cache(maxsize=64)
def _read_config(file: Path, _mtime_ns: int) -> dict[str, dict[str, Any]]:
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
