"""Which process trains in a run folder, so that others can find it again, and never take another for it."""

import json
import platform
from pathlib import Path

import psutil

from models.writing import write_bytes

PROCESS = "process.json"
SAME_SECONDS = 2.0  # a clock that is set anew moves the times at which processes began a little


def note_process(folder: Path, pid: int | None = None) -> None:
    """Note in a run folder which process is to train there, and when it began; else this one, which does."""
    process = psutil.Process(pid)
    noted = {
        "pid": process.pid,
        "began": process.create_time(),
        "machine": platform.node(),
        "trains": pid is None,
    }
    write_bytes(folder / PROCESS, json.dumps(noted).encode())


def process_of(folder: Path) -> psutil.Process | None:
    """The process that trains in a run folder, None where none does any more.

    A number that another process was given since then does not count: it began at another time.
    """
    try:
        noted = json.loads((folder / PROCESS).read_text(encoding="utf-8"))
        process = psutil.Process(noted["pid"])
        is_same = (
            noted["machine"] == platform.node()
            and abs(process.create_time() - noted["began"]) < SAME_SECONDS
            and process.status() != psutil.STATUS_ZOMBIE
        )
    except (OSError, ValueError, KeyError, TypeError, OverflowError, psutil.Error):
        return None
    return process if is_same else None


def trains(folder: Path) -> bool:
    """Whether the process of a run folder has said that it trains there: it is no longer getting ready."""
    try:
        return bool(json.loads((folder / PROCESS).read_text(encoding="utf-8"))["trains"])
    except (OSError, ValueError, KeyError, TypeError):
        return False
