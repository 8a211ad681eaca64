"""A model made ready for OpenVINO, and measured, by a process of its own: a crash ends that one alone."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from pipelines.runners.folder import GRAPHS_VARIABLE, graphs_folder

ROOT = Path(__file__).resolve().parents[1]
CODE = "import sys; from pipelines.runners.choice import prepare; prepare(sys.argv[1])"


def start(model: Path, **options: Any) -> subprocess.Popen[str]:
    """Begin with a model folder, on one thread; `options` are Popen's."""
    # Measured by CPU time, on one thread: what else runs here then hardly counts.
    own = {"OMP_NUM_THREADS": "1", GRAPHS_VARIABLE: str(graphs_folder().absolute())}
    command = [sys.executable, "-c", CODE, str(model.absolute())]
    return subprocess.Popen(command, cwd=ROOT, env=os.environ | own, text=True, **options)  # noqa: S603


class Preparations:
    """Those of the page: one at a time, and none twice, whether it came to an end or not."""

    def __init__(self) -> None:
        self._asked: set[str] = set()
        self._running: subprocess.Popen[str] | None = None

    def ask(self, model: Path, model_id: str) -> None:
        """Prepare a model, unless another one is being prepared."""
        busy = self._running is not None and self._running.poll() is None
        if not busy and model_id not in self._asked:
            self._asked.add(model_id)
            self._running = start(model, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def close(self) -> None:
        """Stop what is under way."""
        if self._running is not None:
            self._running.terminate()
            self._running.wait()
