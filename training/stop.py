"""SIGINT and SIGTERM, noted until a step is whole."""

import signal
from typing import Any


class StopRequest:
    """Notes SIGINT and SIGTERM, so that a step is never cut in half; a second one ends at once."""

    def __enter__(self) -> "StopRequest":
        self.signal: int | None = None
        self.previous = {one: signal.signal(one, self._note) for one in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, *_: object) -> None:
        for one, handler in self.previous.items():
            signal.signal(one, handler)

    def _note(self, number: int, _frame: Any) -> None:
        if self.signal is not None:
            raise SystemExit(128 + number)
        self.signal = number
