"""The engines that are in memory: one for each model used lately."""

from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

from models.folder_check import folder_state
from pipelines.engine import Engine
from pipelines.memory import OutOfMemoryError


class Engines:
    """Opens an engine for a model folder and keeps the last few; for the worker's thread alone."""

    def __init__(self, open_engine: Callable[[Path], Engine], models_in_memory: int) -> None:
        self._open_engine, self._most = open_engine, models_in_memory
        self._engines: OrderedDict[Path, tuple[object, Engine]] = OrderedDict()
        self.device: str | None = None  # what the last one draws on; "" where it does not say

    def get(self, model: Path) -> Engine:
        """The engine of a model folder, from memory if it was used lately and the folder is as it was."""
        state = folder_state(model)  # before it is read: what is replaced meanwhile is read again next time
        if model in self._engines and self._engines[model][0] != state:
            del self._engines[model]
        if model not in self._engines:
            while len(self._engines) >= self._most:
                self._engines.popitem(last=False)
            self._engines[model] = (state, self._open(model))
        self._engines.move_to_end(model)
        engine = self._engines[model][1]
        self.device = str(getattr(engine, "device", ""))
        return engine

    def _open(self, model: Path) -> Engine:
        try:
            return self._open_engine(model)
        except OutOfMemoryError:
            if not self._engines:
                raise
        self._engines.clear()  # the one that is asked for comes before those that may be
        return self._open_engine(model)
