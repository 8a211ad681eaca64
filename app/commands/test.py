"""`launch.py test`: pytest with the marks that this machine and the asked-for lane call for."""

import os
import signal
from pathlib import Path

import pytest

from app.hardware import nvidia_gpus

ROOT = Path(__file__).resolve().parents[2]
MAX_PROCESSES = 4  # each has torch in its memory


class _Interruption:
    """Tells Ctrl+C from other early ends, which pytest gives the same exit code."""

    seen = False

    def pytest_keyboard_interrupt(self) -> None:
        self.seen = True


def main(pytest_words: list[str], exhaustive: bool) -> int:
    """Run pytest in the project's folder; its own words come last: a `-m` among them replaces ours.

    All tests are shared out by file over a process for each core; files that are named run in this one,
    where a debugger works.
    """
    os.chdir(ROOT)
    shared_out = []
    if not any(Path(word.partition("::")[0]).exists() for word in pytest_words):
        shared_out = ["-n", str(min(os.cpu_count() or 1, MAX_PROCESSES)), "--dist", "loadfile"]
        os.environ.setdefault("OMP_NUM_THREADS", "1")  # more threads than cores slow each other tenfold
    # A test that ran into our SystemExit would merely fail, and the rest go on.
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    unwanted = [] if exhaustive else ["slow", "exhaustive"]
    if not cuda_works():
        unwanted.append("cuda")
    interruption = _Interruption()
    marks = " and ".join(f"not {mark}" for mark in unwanted)
    exit_code = pytest.main(["-m", marks, *shared_out, *pytest_words], plugins=[interruption])
    if interruption.seen:
        return 130
    return {pytest.ExitCode.OK: 0, pytest.ExitCode.USAGE_ERROR: 2}.get(pytest.ExitCode(exit_code), 1)


def cuda_works() -> bool:
    """Whether tests marked `cuda` can run here; imports torch only where there is an NVIDIA GPU."""
    if not nvidia_gpus():
        return False
    import torch

    return torch.cuda.is_available()
