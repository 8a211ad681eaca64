"""Where a run's numbers go besides metrics.jsonl, and how much memory the process takes."""

import dataclasses
import sys
from importlib.util import find_spec
from pathlib import Path

import psutil
import torch
from accelerate import Accelerator
from accelerate.tracking import filter_trackers

from models.errors import ConfigError
from training.config import AnyConfig


def check_tracker(name: str) -> None:
    """Refuse a tracker that is not installed; ConfigError with the line that installs it."""
    if name and find_spec(name) is None:
        raise ConfigError(
            f"training.tracker is {name!r}, which is not installed; type `{sys.executable} -m pip install "
            f'{name}`, or leave it "": metrics.jsonl is always written'
        )


def start_tracker(accelerator: Accelerator, folder: Path, config: AnyConfig, first_step: int) -> None:
    """Let `accelerator.log` reach the configured tracker, if any, for the run in `folder`.

    TensorBoard's files go to `folder/tensorboard`, where steps after `first_step` are written anew; trackio
    keeps a run of the folder's name in its project latent-studio.
    """
    name = config.training.tracker
    if not name:
        return
    accelerator.project_configuration.logging_dir = str(folder)
    accelerator.log_with = filter_trackers([name], folder)
    settings = {
        f"{section}.{key}": str(value) if isinstance(value, tuple) else value
        for section, values in dataclasses.asdict(config).items()
        for key, value in values.items()
    }
    accelerator.init_trackers(
        "tensorboard" if name == "tensorboard" else "latent-studio",
        settings,
        {
            "tensorboard": {"purge_step": first_step + 1},
            "trackio": {"name": folder.name, "resume": "allow", "embed": False},
        },
    )


def memory_bytes() -> dict[str, int]:
    """What this process holds: memory that is no file's and the peak (not Linux: all), and the GPU's peak."""
    status = Path("/proc/self/status")
    if status.exists():
        lines = dict(line.split(":", 1) for line in status.read_text().splitlines())
        kilobytes = {"memory_bytes": lines["RssAnon"], "memory_peak_bytes": lines["VmHWM"]}
        found = {name: 1024 * int(value.split()[0]) for name, value in kilobytes.items()}
    else:
        found = {"memory_bytes": psutil.Process().memory_info().rss}
    if torch.cuda.is_available():
        found["cuda_peak_bytes"] = torch.cuda.max_memory_allocated()
    return found
