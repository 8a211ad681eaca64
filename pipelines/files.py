"""Files that people keep, written so that none is ever seen half done. No torch."""

from pathlib import Path

from models.errors import StudioError
from models.weights import write_bytes


def write_whole(path: Path, data: bytes) -> None:
    """Write a file that appears whole or not at all, its folder too; StudioError if the disk refuses."""
    try:
        write_bytes(path, data)
    except OSError as error:
        raise StudioError(f"{path} cannot be written: {error.strerror or error}.") from error
