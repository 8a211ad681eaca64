"""The metrics of a few steps, as one line of the log."""

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from training.distributed import mean_over_ranks
from training.run import Run
from training.state import diverged
from training.trackers import memory_bytes


class Window:
    """The metrics of the steps since the last line of the log; one transfer from the device a line."""

    def __init__(self, first: int) -> None:
        self.first = first  # steps done when it began
        self.steps: list[dict[str, Tensor]] = []
        self.start = time.monotonic()
        self.elsewhere_seconds = 0.0

    @contextmanager
    def elsewhere(self) -> Iterator[None]:
        """Take the time spent within, on checkpoints and samples, out of the speed of the steps."""
        start = time.monotonic()
        yield
        self.elsewhere_seconds += time.monotonic() - start

    def add(self, metrics: dict[str, Tensor]) -> None:
        """Note what one step measured."""
        self.steps.append(metrics)

    def line(self, run: Run, batch_size: int, pictures: int) -> dict[str, Any]:
        """The mean of each metric over steps and processes, speed, memory, and place in the data.

        Raises: StudioError naming the first step whose loss is not finite.
        """
        columns = {name: torch.stack([one[name].float() for one in self.steps]) for name in self.steps[0]}
        columns = {name: mean_over_ranks(column).cpu() for name, column in columns.items()}
        for step, loss in enumerate(columns["loss"].tolist(), self.first + 1):
            if not math.isfinite(loss):
                raise diverged(run, step, "the loss")
        samples = (self.first + len(self.steps)) * batch_size
        seconds = max(time.monotonic() - self.start - self.elsewhere_seconds, 1e-9)
        return {
            "samples": samples,
            "epoch": samples / pictures,
            "samples_per_second": round(len(self.steps) * batch_size / seconds, 2),
            **memory_bytes(),
            **{name: float(column.mean()) for name, column in columns.items()},
        }
