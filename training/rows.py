"""Arrays on disk: grown row by row through crashes, and read as memory maps."""

import json
import tempfile
from collections.abc import Mapping
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.errors import StudioError
from models.writing import sync, write_bytes

PROGRESS = "progress.json"


class Rows:
    """Arrays in a folder that grow by rows; what `commit` did not note was never written.

    `kinds` gives each array's element type and the shape of a row. One process may write at a time.
    """

    def __init__(self, folder: Path, kinds: Mapping[str, tuple[str, tuple[int, ...]]]) -> None:
        self.folder, self.kinds = folder, kinds
        noted: dict[str, Any] = {"rows": dict.fromkeys(kinds, 0), "notes": {}}
        if (folder / PROGRESS).exists():
            noted = json.loads((folder / PROGRESS).read_text())
        self.counts: dict[str, int] = noted["rows"]
        self.notes: dict[str, Any] = noted["notes"]

    def row_bytes(self, name: str) -> int:
        """What a row of an array takes."""
        kind, shape = self.kinds[name]
        return np.dtype(kind).itemsize * prod(shape)

    def append(self, name: str, rows: NDArray[Any]) -> None:
        """Write rows behind those that are there; StudioError where the disk does not take them."""
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / f"{name}.bin"
        try:
            path.touch()
            with path.open("r+b") as file:
                file.truncate(self.counts[name] * self.row_bytes(name))  # what a killed process left beyond
                file.seek(0, 2)
                file.write(np.ascontiguousarray(rows, self.kinds[name][0]).tobytes())
        except OSError as error:
            raise StudioError(
                f"{path} cannot be written ({error.strerror}); make room, and the same command goes on"
            ) from error
        self.counts[name] += len(rows)

    def commit(self) -> None:
        """Make what was appended last, whatever happens to the machine."""
        for name in self.kinds:
            if (self.folder / f"{name}.bin").exists():
                sync(self.folder / f"{name}.bin")
        progress = {"rows": self.counts, "notes": self.notes}
        write_bytes(self.folder / PROGRESS, json.dumps(progress).encode())

    def array(self, name: str) -> NDArray[Any]:
        """The rows (N, *shape) as they lie on the disk."""
        kind, shape = self.kinds[name]
        if not self.counts[name]:
            return np.empty((0, *shape), kind)
        path = self.folder / f"{name}.bin"
        return np.memmap(path, kind, "r", shape=(self.counts[name], *shape))


def on_disk(array: NDArray[Any]) -> NDArray[Any]:
    """The same array in a file without a name, so that it does not count as memory of this process."""
    with tempfile.TemporaryFile() as file:
        array.tofile(file)
        return np.memmap(file, array.dtype, "r", shape=array.shape)
