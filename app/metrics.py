"""What a training logs, read as it grows: metrics.jsonl as columns of numbers."""

import json
import math
import os
import threading
from array import array
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class Series(NamedTuple):
    """Steps and the values at them, both (N,)."""

    steps: NDArray[np.float64]
    values: NDArray[np.float64]


class Metrics:
    """The numbers of one metrics.jsonl; `read` takes in what was added, all of it where it was rewritten."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self._lock = threading.Lock()
        self._forget()

    def _forget(self) -> None:
        self._read_bytes, self._inode = 0, 0
        self._columns: dict[str, tuple[array[float], array[float]]] = {}
        self.last: dict[str, float] = {}  # each metric's newest value

    def read(self) -> None:
        """Take in the whole lines that are new; one that is no record is passed over."""
        with self._lock:
            try:
                with self.file.open("rb") as file:
                    status = os.fstat(file.fileno())  # of this one, should another just take its place
                    if status.st_ino != self._inode or status.st_size < self._read_bytes:
                        self._forget()  # a training that went on dropped the lines it computes again
                        self._inode = status.st_ino
                    file.seek(self._read_bytes)
                    for line in file:
                        if not line.endswith(b"\n"):
                            break  # it is being written
                        self._read_bytes += len(line)
                        self._take(line)
            except FileNotFoundError:
                self._forget()

    def _take(self, line: bytes) -> None:
        try:
            record = json.loads(line)
            step = float(record["step"])
        except (ValueError, KeyError, TypeError):
            return
        for name, value in record.items():
            if isinstance(value, int | float) and math.isfinite(value):
                steps, values = self._columns.setdefault(name, (array("d"), array("d")))
                steps.append(step)
                values.append(value)
                self.last[name] = value

    def series(self, name: str) -> Series | None:
        """All values of a metric; None where there are none."""
        with self._lock:
            if name not in self._columns:
                return None
            steps, values = self._columns[name]
            return Series(np.array(steps), np.array(values))

    def mean_of(self, prefix: str) -> Series | None:
        """The mean over the metrics whose names begin so, which are logged together; None without any."""
        every = [self.series(name) for name in sorted(self._columns) if name.startswith(prefix)]
        found = [one for one in every if one is not None]
        if not found:
            return None
        count = min(len(one.steps) for one in found)  # a line may be half of what others hold
        return Series(found[0].steps[:count], np.mean([one.values[:count] for one in found], axis=0))


def thinned(series: Series, most: int = 240) -> Series:
    """At most `most` points, each the mean of as many neighbours, and the last one as it is."""
    count = len(series.steps)
    if count <= most:
        return series
    begins = np.arange(most - 1) * (count - 1) // (most - 1)
    sizes = np.diff(np.append(begins, count - 1))
    steps, values = (np.add.reduceat(column[:-1], begins) / sizes for column in series)
    return Series(np.append(steps, series.steps[-1]), np.append(values, series.values[-1]))


@lru_cache(maxsize=8)
def metrics_of(run: Path) -> Metrics:
    """The numbers of a run folder, kept from one look to the next; `read` is for whoever looks."""
    return Metrics(run / "metrics.jsonl")
