"""What the browser is served: pictures linked one by one, also when several tabs ask at once."""

import errno
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from app.shelf import clear_shelves, put, shelf, take_down


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    file = tmp_path / "a-1.png"
    file.write_bytes(b"pixels" * 1000)
    return file


def test_tabs_that_ask_for_the_same_picture_at_once_all_get_it(
    picture: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    link, meeting = os.link, threading.Barrier(8)

    def late(*paths: Path) -> None:  # everybody has looked, and nobody has linked yet
        meeting.wait(120)
        link(*paths)

    monkeypatch.setattr(os, "link", late)
    folder, got = shelf(str(tmp_path / "served")), []
    tabs = [threading.Thread(target=lambda: got.append(put(picture, folder))) for _ in range(8)]
    for tab in tabs:
        tab.start()
    for tab in tabs:
        tab.join()
    assert len(got) == 8
    assert set(got) == set(folder.iterdir())
    assert os.path.samefile(got[0], picture)


def test_where_links_cannot_be_made_the_picture_is_copied_whole(
    picture: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Path) -> None:
        raise OSError(errno.EXDEV, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", refuse)
    served = put(picture, shelf(str(tmp_path / "served")))
    assert served.read_bytes() == picture.read_bytes()
    assert list(served.parent.iterdir()) == [served]


def test_a_picture_drawn_anew_under_its_old_name_is_served_anew(picture: Path, tmp_path: Path) -> None:
    folder = shelf(str(tmp_path / "served"))
    before = put(picture, folder)
    drawn = picture.stat()
    picture.unlink()
    picture.write_bytes(b"other pixels")
    os.utime(picture, ns=(drawn.st_atime_ns, drawn.st_mtime_ns))  # as if the clock had stood still
    assert before.read_bytes() != put(picture, folder).read_bytes() == b"other pixels"


def test_of_a_picture_that_is_deleted_at_this_moment_nothing_is_served(picture: Path, tmp_path: Path) -> None:
    picture.unlink()
    assert not put(picture, shelf(str(tmp_path / "served"))).exists()


def test_the_shelves_of_killed_servers_are_cleared_and_no_others(picture: Path, tmp_path: Path) -> None:
    served = tmp_path / "served"
    own = put(picture, shelf(str(served)))
    ended = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True,
                           text=True, check=True).stdout.strip()  # fmt: skip
    for name in (f"studio-{ended}-abc", "studio-0ld", "upload"):
        (served / name).mkdir()
        put(picture, served / name)
    clear_shelves(served)
    assert {file.name for file in served.iterdir()} == {own.parent.name, "upload"}
    assert own.is_file()
    assert picture.is_file()


def test_a_picture_that_is_taken_down_can_no_longer_be_fetched(tmp_path: Path) -> None:
    picture, folder = tmp_path / "a.png", tmp_path / "shelf"
    picture.write_bytes(b"picture")
    link = put(picture, folder)
    take_down(picture, folder)
    assert not link.exists()
    assert picture.exists()
    take_down(picture, folder)
    picture.unlink()
    take_down(picture, folder)
