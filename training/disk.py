"""Whether the disk has room for what is about to be written."""

import shutil
from pathlib import Path

from models.errors import StudioError


def require_space(folder: Path, needed_bytes: int, what: str, remedy: str) -> None:
    """Refuse to begin what the disk of a folder cannot hold, a tenth of it to spare.

    Raises: StudioError with the bytes and the remedy, after "make room".
    """
    folder.mkdir(parents=True, exist_ok=True)
    free_bytes = shutil.disk_usage(folder).free
    if free_bytes < 1.1 * needed_bytes:
        raise StudioError(
            f"{what} {needed_bytes:,} bytes and a tenth to spare, and the disk of {folder} has "
            f"{free_bytes:,} free; make room{remedy}"
        )
