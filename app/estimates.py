"""What a training will take on this machine, measured by a dry run in a process of its own."""

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from app import text
from app.trainings import ROOT, last_words
from models.errors import RequestError
from training.runs import runs_folder

STEP_SECONDS = re.compile(r"([0-9.e+-]+) s a step")
ASK_AGAIN_SECONDS = 0.5


def dry_run(arguments: Sequence[str]) -> Iterator[str]:
    """What `launch.py train ARGUMENTS --dry-run` prints: "" while it works, then all of it.

    Closing this ends the process. Raises: RequestError with its own words where it fails.
    """
    command = [sys.executable, str(ROOT / "launch.py"), "train", *arguments, "--dry-run", "--no-setup"]
    environment = os.environ | {"LATENT_STUDIO_RUNS": str(runs_folder().absolute())}
    with tempfile.TemporaryDirectory() as folder:
        said, complained = Path(folder, "said"), Path(folder, "complained")
        with said.open("wb") as out, complained.open("wb") as err:
            process = subprocess.Popen(  # noqa: S603
                command, cwd=ROOT, env=environment, stdin=subprocess.DEVNULL, stdout=out, stderr=err
            )
        try:
            while process.poll() is None:
                yield ""
                with suppress(subprocess.TimeoutExpired):
                    process.wait(ASK_AGAIN_SECONDS)
        finally:
            if process.poll() is None:
                process.terminate()
                try:
                    process.wait(10)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()
        if process.returncode:
            raise RequestError(last_words(complained) or text.TRAIN_NO_WORDS)
        yield said.read_text(encoding="utf-8")


def step_seconds(said: str) -> float:
    """Seconds of one step, as a dry run said them."""
    match = STEP_SECONDS.search(said)
    assert match is not None
    return float(match[1])
