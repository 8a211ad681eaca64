"""The ControlNets that requests may name, and the ones that are in memory."""

import difflib
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from models.controlnet import ControlNetFolder, read_controlnet
from models.errors import RequestError
from models.folder_check import folder_state
from models.machine import free_memory_bytes
from pipelines.memory import OutOfMemoryError

if TYPE_CHECKING:
    import torch
    from torch import nn


class ControlNets:
    """The ControlNets in a folder, one folder each, looked for anew by each request; without one, none.

    Those of the last drawing stay in memory.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder
        self._loaded: dict[tuple[object, ...], nn.Module] = {}
        self._lock = threading.Lock()

    def names(self) -> list[str]:
        """What requests may call them."""
        if self.folder is None:
            return []
        return sorted(file.parent.name for file in self.folder.glob("*/config.json"))

    def find(self, name: str) -> ControlNetFolder:
        """The folder of a name; RequestError saying which there are, ModelError where it cannot be used."""
        names = self.names()
        if self.folder is None or name not in names:
            asked = f'There is no ControlNet "{name[:60]}"'
            if not names:
                where = "" if self.folder is None else f": put its folder into {self.folder}"
                raise RequestError(f"{asked}{where}, or draw without one.")
            near = difflib.get_close_matches(name, names, 1, cutoff=0)
            listed = ", ".join(names[:20]) + (", ..." if len(names) > 20 else "")
            raise RequestError(f'{asked}; did you mean "{near[0]}"? There is {listed}.')
        # Joined from what the folder holds, so that a name leads nowhere else.
        return read_controlnet(self.folder / name)

    def load(self, names: list[str], device: "torch.device", dtype: "torch.dtype") -> "list[nn.Module]":
        """The nets of these names, in their order, loaded where they are not in memory as they are on disk.

        Raises as `find` does, and OutOfMemoryError where they have no room.
        """
        with self._lock:
            found = [self.find(name) for name in names]
            keys = [(net.path, folder_state(net.path), device, dtype) for net in found]
            self._loaded = {key: net for key, net in self._loaded.items() if key in keys}
            missing = {key: net for key, net in zip(keys, found, strict=True) if key not in self._loaded}
            needed, free = sum(net.bytes_in_memory for net in missing.values()), free_memory_bytes()
            if missing and needed > free:
                raise OutOfMemoryError(
                    f"There is not enough memory for the ControlNet: it needs {needed / 1e9:.2f} GB, and "
                    f"{free / 1e9:.2f} GB are free; draw without it, or close other programs."
                )
            for key, net in missing.items():
                self._loaded[key] = net.load().to(device, dtype)
            return [self._loaded[key] for key in keys]
