"""A studio that is killed at any file event: its queue and its history can be read afterwards."""

import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from app.database import open_database
from app.job import JobState
from app.library import Library
from app.settings import Settings
from pipelines.png import read_png
from tests.app.engines import PacedEngine, a_request
from tests.app.queues import opened, the_end
from tests.newcomer import ROOT

POINTS = 10
# For each folder and number, forks a process that dies before the event of this number: what Python calls
# in C to change the disk. Says how each ended; one that lived writes down how many events there were.
CHILD = """
import os, signal, sys, threading
from pathlib import Path
from tests.app.engines import PacedEngine, a_request
from tests.app.queues import opened, the_end

seen = 0
EVENTS = {"open", "write", "fsync", "replace", "chmod", "mkdir", "unlink", "execute", "close"}

def draw(folder, kill_at):
    def spy(frame, event, function):
        global seen
        if event == "c_call" and function.__name__ in EVENTS:
            seen += 1
            if seen == kill_at:
                os.kill(os.getpid(), signal.SIGKILL)

    threading.setprofile(spy)
    sys.setprofile(spy)
    with opened(folder, PacedEngine) as jobs:
        asked = [a_request(seed=seed, count=2) for seed in (10, 20, 30)]
        waiting = [jobs.submit(request, "ann", Path("m")) for request in asked]
        for job in waiting:
            the_end(jobs, job)
    sys.setprofile(None)
    (folder / "events.txt").write_text(str(seen))

for line in sys.stdin:
    folder, kill_at = line.split()
    if (child := os.fork()) == 0:
        draw(Path(folder), int(kill_at))
        os._exit(0)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


def run(orders: dict[Path, int]) -> list[int]:
    """The exit codes of drawing in each folder until the event of this number."""
    lines = "".join(f"{folder} {kill_at}\n" for folder, kill_at in orders.items())
    done = subprocess.run(
        [sys.executable, "-c", CHILD], input=lines, cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return [int(code) for code in done.stdout.split()]


def events_of(studio: Path, work: Path) -> int:
    """How many events there are where nothing is killed."""
    folder = shutil.copytree(studio, work / "whole")
    assert run({folder: 0}) == [0]
    return int((folder / "events.txt").read_text())


@pytest.fixture
def studio(tmp_path: Path) -> Path:
    """The outputs of a studio that drew a favourite and stopped well."""
    outputs = tmp_path / "studio"
    with opened(outputs, PacedEngine) as jobs:
        the_end(jobs, jobs.submit(a_request(seed=1), "ann", Path("m")))
    database = open_database(Settings(outputs=outputs).database)
    library = Library(outputs, database)
    library.set_favourite(library.newest("ann")[0], True)
    database.close()
    return outputs


def dies_well(studio: Path, work: Path, points: Sequence[int]) -> None:
    folders = {shutil.copytree(studio, work / f"killed-{point}"): point for point in points}
    assert set(run(folders)) == {-signal.SIGKILL}
    for folder, point in folders.items():
        files = [read_png(path) for path in folder.rglob("*.png")]  # which `.writing-` files are not
        assert all(found is not None for found in files), point
        database = open_database(Settings(outputs=folder).database)
        library = Library(folder, database)
        known = library.newest("ann")
        assert next(one for one in known if one.request.seed == 1).favourite, point
        assert len(known) <= len(files) == library.rebuild(), point  # what was not indexed is found again
        database.close()
        assert not list(folder.rglob("*.damaged-*")), point
        with opened(folder, PacedEngine) as jobs:  # which takes what was left for interrupted
            left = jobs.rows.interrupted("ann")
            states = {row["state"] for row in jobs.rows.newest("ann")}
            assert states <= {JobState.DONE, JobState.INTERRUPTED}, point
            for row in left:
                again = jobs.again(row["id"], "ann")
                assert again is not None
                assert the_end(jobs, again).state is JobState.DONE


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="nothing is killed so on Windows")
def test_a_studio_killed_at_some_events_keeps_its_queue_and_history(studio: Path, tmp_path: Path) -> None:
    total = events_of(studio, tmp_path)
    assert total > 50
    seed = random.randrange(10**6)
    print(f"{POINTS} of {total} events, sampled with the seed {seed}")
    dies_well(studio, tmp_path, sorted(random.Random(seed).sample(range(1, total + 1), POINTS)))


@pytest.mark.exhaustive
@pytest.mark.skipif(os.name == "nt", reason="nothing is killed so on Windows")
def test_a_studio_killed_at_any_event_keeps_its_queue_and_history(studio: Path, tmp_path: Path) -> None:
    total = events_of(studio, tmp_path)
    dies_well(studio, tmp_path, range(1, total + 1))


def test_a_database_torn_by_hand_is_set_aside_and_the_history_made_anew(studio: Path) -> None:
    file = Settings(outputs=studio).database
    with sqlite3.connect(file) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
    file.write_bytes(file.read_bytes()[:5000])
    database = open_database(file)
    assert Library(studio, database).rebuild() == 1
    assert [one.favourite for one in Library(studio, database).newest("ann")] == [True]
    database.close()
