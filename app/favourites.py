"""Which pictures are favourites: names in a text file beside them, one a line.

Not in the PNGs, which stay as they were drawn, and not in the index alone, which may be lost and made anew.
"""

import threading
from pathlib import Path

from pipelines.files import write_whole


class Favourites:
    """The names of favourite pictures, read once and written whole at each change."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        try:
            text = path.read_text(encoding="utf-8", errors="replace")
        except OSError:
            text = ""
        self._names = dict.fromkeys(line.strip() for line in text.splitlines() if line.strip())

    def __contains__(self, name: str) -> bool:
        return name in self._names

    def put(self, name: str, favourite: bool) -> None:
        """Add a name or take it out; StudioError if the file cannot be written."""
        with self._lock:
            names = {known: None for known in self._names if known != name} | (
                {name: None} if favourite else {}
            )
            if names.keys() != self._names.keys():
                write_whole(self._path, "".join(f"{known}\n" for known in names).encode())
                self._names = names
