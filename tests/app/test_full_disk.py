"""Disks that are full: what is told, and that what was there stays. The disks are real and small."""

import resource
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.database import Database, open_database
from app.favourites import Favourites
from app.job import JobState
from app.library import Library
from app.settings import Settings
from models.errors import StudioError
from pipelines.files import write_whole
from pipelines.png import read_png
from tests.app.api.studio import running
from tests.app.engines import PacedEngine, a_request
from tests.app.libraries import a_result
from tests.app.queues import opened, the_end
from tests.commands import Generate
from tests.newcomer import ROOT

ROOMS = [0, 4096, 16_384, 65_536, 262_144]  # bytes that are left where the next picture is asked for


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of two megabytes."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounting = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(folder)]
    if sys.platform != "linux" or subprocess.run(mounting, capture_output=True, check=False).returncode:
        pytest.skip("only root can mount a small disk here; RLIMIT_FSIZE stands for one below")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def fill(disk: Path, room_bytes: int) -> Path:
    """Leave this much of a disk."""
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(b"\0" * 4096)
        except OSError:
            file.truncate(max(0, file.tell() - room_bytes))
    return filler


def nothing_is_torn(folder: Path) -> None:
    for path in folder.rglob("*.png"):
        assert read_png(path) is not None
    assert not list(folder.rglob(".writing-*"))
    assert not list(folder.rglob("*.damaged-*"))


@pytest.mark.parametrize("room", ROOMS)
def test_a_full_disk_is_said_and_loses_nothing_and_the_page_goes_on_when_there_is_room(
    small_disk: Path, room: int
) -> None:
    outputs = small_disk / "outputs"
    with opened(outputs, PacedEngine) as jobs:
        model, said = Path("m"), []
        first = the_end(jobs, jobs.submit(a_request(), "ann", model))
        assert first.state is JobState.DONE
        filler = fill(small_disk, room)
        for seed in range(20):
            try:
                view = the_end(jobs, jobs.submit(a_request(seed=seed, count=20), "ann", model))
            except StudioError as error:
                said.append(str(error))
            else:
                said += [view.error] if view.state is not JobState.DONE and view.error else []
        assert said
        assert all("cannot be written" in words and "ake room" in words for words in said)
        nothing_is_torn(outputs)
        filler.unlink()
        assert the_end(jobs, jobs.submit(a_request(seed=99), "ann", model)).state is JobState.DONE
    database = open_database(Settings(outputs=outputs).database)
    seeds = [picture.request.seed for picture in Library(outputs, database).newest("ann", limit=1000)]
    assert {7, 99} <= set(seeds)
    database.close()


def test_what_is_known_is_shown_on_a_full_disk(small_disk: Path) -> None:
    database = Database(small_disk / "studio.sqlite3")
    library = Library(small_disk, database)
    kept, gone = (library.save(a_result(), "ann", job)[0] for job in ("job1", "job2"))
    gone.unlink()
    fill(small_disk, 0)
    assert [picture.path for picture in library.newest("ann")] == [kept]
    assert [picture.path for picture in library.search("ann")[0]] == [kept]
    (picture,) = library.newest("ann")
    with pytest.raises(StudioError, match="ake room"):
        library.set_favourite(picture, True)
    assert not library.newest("ann")[0].favourite
    database.close()


def test_favourites_outlive_a_full_disk(small_disk: Path) -> None:
    favourites = Favourites(small_disk / "favourites.txt")
    favourites.put("a", True)
    fill(small_disk, 0)
    with pytest.raises(StudioError, match="Make room"):
        favourites.put("b" * 5000, True)
    assert "a" in Favourites(small_disk / "favourites.txt")
    assert "b" * 5000 not in favourites


def test_the_command_says_so_and_keeps_what_it_drew(generate: Generate, small_disk: Path) -> None:
    order = ("a red apple", "--steps", "1", "--width", "64", "--height", "64")
    (first,) = generate(*order, "--output-dir", small_disk / "pictures", "--seed", "1")
    before = Path(first).read_bytes()
    fill(small_disk, 0)
    (said,) = generate(*order, "--output-dir", small_disk / "pictures", "--seed", "2", expect=1)[-1:]
    assert "No space left on device" in said
    assert "Make room" in said
    assert Path(first).read_bytes() == before
    nothing_is_torn(small_disk)


@pytest.mark.slow
def test_a_program_is_told_with_a_status_of_its_own(small_disk: Path, tiny_model_folder: Path) -> None:
    with running(small_disk, tiny_model_folder, PacedEngine) as studio:
        filler = fill(small_disk, 0)
        status, body = studio.order(size="64x64")
        assert status in (200, 503)  # what it draws lies in no folder here
        if status == 503:
            assert "ake room" in body["error"]["message"]
        filler.unlink()
        assert studio.order(size="64x64")[0] == 200


LIMITED = """
import resource, sys
from pathlib import Path
from app.database import Database
from app.job import JobState
from app.library import Library
from models.errors import StudioError
from tests.app.engines import PacedEngine, a_request
from tests.app.queues import opened, the_end

folder, said = Path(sys.argv[1]), []
with opened(folder, PacedEngine) as jobs:
    def draw(seed):
        try:
            view = the_end(jobs, jobs.submit(a_request(seed=seed), "ann", Path("m")))
        except StudioError as error:
            return str(error)
        return view.error or view.state
    said.append(draw(1))
    hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
    for limit in (0, 100, 1000):
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
        said.append(draw(2))
    resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    said.append(draw(3))
print(*said, sep="\\n")
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="only Linux limits the files of a process")
def test_files_that_may_not_grow_are_told_and_the_next_picture_is_drawn(tmp_path: Path) -> None:
    answer = subprocess.run(
        [sys.executable, "-c", LIMITED, tmp_path], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert answer.returncode == 0, answer.stderr
    first, *limited, last = answer.stdout.splitlines()
    assert (first, last) == ("done", "done")
    assert all("cannot be written" in words for words in limited)
    nothing_is_torn(tmp_path)
    database = open_database(Settings(outputs=tmp_path).database)
    seeds = [picture.request.seed for picture in Library(tmp_path, database).newest("ann")]
    assert sorted(seeds) == [1, 3]
    database.close()


def test_a_file_that_may_not_grow_leaves_the_old_one(tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    write_whole(tmp_path / "f", b"old")
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        with pytest.raises(StudioError, match=r"File too large\. Make room"):
            write_whole(tmp_path / "f", b"new" * 1000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert (tmp_path / "f").read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [tmp_path / "f"]
