"""A model made ready for OpenVINO, and measured, by a process of its own: a crash ends that one alone."""

import logging
import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Lock
from typing import Any

from pipelines.runners.folder import GRAPHS_VARIABLE, graphs_folder

logger = logging.getLogger(__name__)
ROOT = Path(__file__).resolve().parents[1]
CODE = "import sys; from pipelines.runners.choice import prepare; prepare(sys.argv[1])"
STOPPED = (-signal.SIGINT, -signal.SIGTERM)  # exit codes: Ctrl+C reaches every process of a terminal


def start(model: Path, **options: Any) -> subprocess.Popen[str]:
    """Begin with a model folder, on one thread; `options` are Popen's."""
    # Measured by CPU time, on one thread: what else runs here then hardly counts.
    own = {"OMP_NUM_THREADS": "1", GRAPHS_VARIABLE: str(graphs_folder().absolute())}
    command = [sys.executable, "-c", CODE, str(model.absolute())]
    return subprocess.Popen(command, cwd=ROOT, env=os.environ | own, text=True, **options)  # noqa: S603


class Preparations:
    """Those of the page: one after another, and none twice, whether it came to an end or not."""

    def __init__(self) -> None:
        self._asked: set[str] = set()
        self._queue = ThreadPoolExecutor(max_workers=1, thread_name_prefix="preparations")
        self._lock = Lock()  # between the start of a process and the end of them all
        self._running: subprocess.Popen[str] | None = None
        self._closed = False

    def ask(self, model: Path, model_id: str) -> None:
        """Prepare a model once those asked for before are through."""
        if model_id not in self._asked:
            self._asked.add(model_id)
            self._queue.submit(self._prepare, model)

    def close(self) -> None:
        """Stop what is under way, and begin with none that waits."""
        with self._lock:
            self._closed = True
            if self._running is not None:
                self._running.terminate()
        self._queue.shutdown(cancel_futures=True)

    def _prepare(self, model: Path) -> None:
        with self._lock:
            if self._closed:
                return
            self._running = start(model, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        code = self._running.wait()
        if code and code not in STOPPED and not self._closed:
            logger.warning(
                "%s could not be prepared for OpenVINO (exit code %d), so torch goes on drawing with it; "
                "`python launch.py doctor --prepare --model %s` tries again and shows why.",
                model.name,
                code,
                model,
            )
