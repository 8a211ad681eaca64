"""Room on the disk for what is about to be written, and folders that a power cut does not take away."""

import shutil
from pathlib import Path

from models.errors import StudioError
from models.writing import sync
from pipelines.files import FULL


def make_folder(folder: Path) -> None:
    """Make a folder and those above it; their names are on the disk when this returns."""
    new = [one for one in (folder, *folder.parents) if not one.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    for one in new:
        sync(one.parent)


def is_full(error: Exception) -> bool:
    """Whether a disk, or a person's share of it, had no room left; not every writer gives the number."""
    full = getattr(error, "errno", None) in FULL
    return full or "no space left" in str(error).lower()


def require_space(folder: Path, needed_bytes: int, what: str, remedy: str) -> None:
    """Refuse to begin what the disk of a folder cannot hold, a tenth of it to spare.

    Raises: StudioError with the bytes and the remedy, after "make room".
    """
    make_folder(folder)
    free_bytes = shutil.disk_usage(folder).free
    if free_bytes < 1.1 * needed_bytes:
        raise StudioError(
            f"{what} {needed_bytes:,} bytes and a tenth to spare, and the disk of {folder} has "
            f"{free_bytes:,} free; make room{remedy}"
        )
