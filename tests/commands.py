"""`launch.py generate` as a person types it, in a process of its own."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
Generate = Callable[..., list[str]]  # the fixture `generate`


def run_command(*words: str | Path, python: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *python, ROOT / "launch.py", "generate", *words],
        capture_output=True,
        text=True,
        check=False,
    )
