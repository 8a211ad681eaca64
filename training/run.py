"""The run folder: what a training was told, where it ran, what it printed, and where it stands."""

import json
import platform
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout

from models.errors import ConfigError
from models.names import why_no_name
from models.writing import write_bytes
from training.config import AnyConfig, dump_config
from training.disk import make_folder
from training.distributed import from_main, is_main, world_size
from training.process import note_process
from training.runs import FINISHED, runs_folder


class Run:
    """A folder with config.toml, environment.json, metrics.jsonl, samples/, checkpoints/ and model/.

    One training at a time: a second one is refused. Of the processes of one training the main one alone
    holds the folder's lock and writes to it. Use it in `with`, which gives the folder back.
    """

    def __init__(self, folder: Path, config: AnyConfig) -> None:
        self.folder = folder
        self.samples = folder / "samples"
        self.checkpoints = folder / "checkpoints"
        self.model = folder / "model"
        self.lock = FileLock(folder / ".lock")
        if is_main():
            self._claim(config)

    def _claim(self, config: AnyConfig) -> None:
        folder, text = self.folder, dump_config(config)
        config_file = folder / "config.toml"
        if config_file.exists() and config_file.read_text(encoding="utf-8") != text:
            raise ConfigError(
                f"{folder} was begun with another configuration (see {config_file}); "
                "name another --run, or ask for the same settings"
            )
        try:
            make_folder(self.samples)
            self.lock.acquire(blocking=False)
            note_process(folder)
        except Timeout as error:
            raise ConfigError(f"a training already runs in {folder}; name another --run") from error
        except OSError as error:
            raise ConfigError(f"{folder} cannot be written ({error.strerror}); name another --run") from error
        if not config_file.exists():
            write_bytes(folder / "environment.json", json.dumps(environment(), indent=1).encode())
            write_bytes(config_file, text.encode())

    def __enter__(self) -> "Run":
        return self

    def __exit__(self, *_: object) -> None:
        self.lock.release()

    @classmethod
    def open(cls, config: AnyConfig, folder: Path | None) -> "Run":
        """The named run, else the newest unfinished one of the same configuration, else a new one.

        Every process of a training gets the main one's.
        """
        if folder is None:
            folder = from_main(cls._next(config) if is_main() else None)
        assert folder is not None
        return cls(folder, config)

    @staticmethod
    def _next(config: AnyConfig) -> Path:
        text = dump_config(config)
        unfinished = [
            path.parent
            for path in runs_folder().glob("*/config.toml")
            if path.read_text(encoding="utf-8") == text and not (path.parent / FINISHED).exists()
        ]
        if unfinished:
            return max(unfinished, key=lambda path: path.stat().st_mtime)
        stem = f"{time.strftime('%Y-%m-%d')}-{config.training.name}"
        if reason := why_no_name(stem):
            raise ConfigError(f"training.name is {config.training.name!r}, no name for a folder: {reason}")
        number = 1
        while (new := runs_folder() / (stem if number == 1 else f"{stem}-{number}")).exists():
            number += 1
        return new

    def log(self, metrics: dict[str, Any]) -> None:
        """Append one line to metrics.jsonl."""
        if not is_main():
            return
        with (self.folder / "metrics.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(metrics) + "\n")

    def rewind_log(self, step: int) -> None:
        """Drop the metrics of steps after `step`, which a resumed run computes again."""
        path = self.folder / "metrics.jsonl"
        if is_main() and path.exists():
            lines = [line for line in path.read_text(encoding="utf-8").splitlines() if _step_of(line) <= step]
            write_bytes(path, "".join(f"{line}\n" for line in lines).encode())

    def finish(self, summary: dict[str, Any]) -> None:
        """Mark the run as done."""
        if is_main():
            write_bytes(self.folder / FINISHED, json.dumps(summary).encode())


def environment() -> dict[str, Any]:
    """Versions and hardware, for the record."""
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "torch": torch.__version__,
        "diffusers": version("diffusers"),
        "transformers": version("transformers"),
        "accelerate": version("accelerate"),
        "processes": world_size(),
        "threads": torch.get_num_threads(),
        "cuda": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
    }


def _step_of(line: str) -> float:
    try:
        step: float = json.loads(line)["step"]
        return step
    except (ValueError, KeyError, TypeError):
        return float("inf")  # a line torn by a crash
