"""Files that people keep, written so that none is ever seen half done. No torch."""

import errno
from pathlib import Path

from models.errors import StudioError
from models.writing import write_bytes

# A full disk, a person's share of one used up, a file larger than a process may write.
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def write_whole(path: Path, data: bytes) -> None:
    """Write a file that appears whole or not at all, its folder too; StudioError if the disk refuses."""
    try:
        write_bytes(path, data)
    except OSError as error:
        room = " Make room on its disk." if error.errno in FULL else ""
        raise StudioError(f"{path} cannot be written: {error.strerror or error}.{room}") from error
