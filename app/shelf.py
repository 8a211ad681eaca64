"""The folder the browser is served pictures from: links to the files that a page shows, to no others."""

import atexit
import os
import secrets
import shutil
import sys
import tempfile
from contextlib import suppress
from functools import cache
from pathlib import Path

PREFIX = "studio-"  # then the server's process number and a random part


@cache
def shelf(served: str) -> Path:
    """A folder of this process in the one that Gradio serves, gone when the process ends."""
    Path(served).mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=f"{PREFIX}{os.getpid()}-", dir=served))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def put(picture: Path, folder: Path) -> Path:
    """Link a picture into a shelf, or copy it where that cannot be; threads may do so at the same time.

    Where it is deleted at this moment, nothing is served.
    """
    try:
        link = _link(picture, folder)
        if not link.exists():
            _serve(picture, link)
        return link
    except FileNotFoundError:
        return folder / picture.name


def _serve(picture: Path, link: Path) -> None:
    link.parent.mkdir(mode=0o700, exist_ok=True)
    try:
        os.link(picture, link)
    except FileExistsError:  # another tab was faster
        pass
    except OSError:  # another disk, or a file system without links
        copy = link.parent / f".{secrets.token_hex(8)}.tmp"
        try:
            shutil.copyfile(picture, copy)
            os.replace(copy, link)
        finally:
            copy.unlink(missing_ok=True)


def take_down(picture: Path, folder: Path) -> None:
    """Take a picture that is about to be deleted out of a shelf: what is linked is not deleted."""
    with suppress(FileNotFoundError):
        _link(picture, folder).unlink()


def clear_shelves(served: Path) -> None:
    """Remove the shelves of servers that were killed and could not do it themselves."""
    for folder in served.glob(f"{PREFIX}*"):
        number = folder.name.removeprefix(PREFIX).partition("-")[0]
        if not (number.isdecimal() and _lives(int(number))):
            shutil.rmtree(folder, ignore_errors=True)


def _link(picture: Path, folder: Path) -> Path:
    # A file that was drawn anew under an old name is another picture: at another time, or, where the clock of
    # the disk stood still between the two, with another number, since the link keeps the old one's.
    status = picture.stat()
    return folder / f"{picture.stem}-{status.st_mtime_ns:x}-{status.st_ino:x}{picture.suffix}"


def _lives(process: int) -> bool:
    if sys.platform == "win32":  # where os.kill would end the process
        import ctypes

        handle = ctypes.windll.kernel32.OpenProcess(0x1000, False, process)  # to ask for its state alone
        ctypes.windll.kernel32.CloseHandle(handle)
        return bool(handle)
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True
