"""Trainings as a person starts them, `launch.py train` in one process or in several, only sooner."""

import os
import subprocess
from pathlib import Path

from tests.ports import quiet_port
from tests.training.forking import shared_server

ROOT = Path(__file__).parents[2]


def train(stage, run, ranks=1, **settings):
    """Start `train STAGE` in `ranks` processes that know of each other by the environment alone."""
    words = [word for key, value in settings.items() for word in ("--set", f"{key}={value}")]
    command = [*shared_server(), "train", stage, "--config", f"tiny-{stage}", "--run", str(run), *words]
    return start(command, ranks, run.parent / "runs")


def start(command, ranks, runs):
    """Start a command in `ranks` processes, whose caches lie below `runs`."""
    shared = {"WORLD_SIZE": str(ranks), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(quiet_port())}
    environment = os.environ | {"OMP_NUM_THREADS": "1", "LATENT_STUDIO_RUNS": str(runs)}
    return [
        subprocess.Popen(
            command,
            cwd=ROOT,
            env=environment | (shared | {"RANK": str(rank)} if ranks > 1 else {}),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(ranks)
    ]


def finish(processes, timeout=300):
    """Exit codes and what was said, of processes that end within `timeout` seconds."""
    said = [process.communicate(timeout=timeout) for process in processes]
    return [process.returncode for process in processes], said


def trained(stage, run, ranks=1, **settings):
    """What the main process of a training said that ended well."""
    codes, said = finish(train(stage, run, ranks, **settings))
    assert codes == [0] * ranks, (codes, said)
    return said[0][0]
