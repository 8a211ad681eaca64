import math
import os
import shutil
import sqlite3
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from app.context import open_context
from app.database import Database, open_database
from app.library import Library
from app.settings import Settings
from app.stage import picture_facts, use_button
from models.errors import StudioError
from pipelines.png import read_png, save_png
from tests.app.engines import PacedEngine, a_request
from tests.app.libraries import a_result, draw_by_command, everything


def test_each_picture_is_a_png_that_draws_itself_again(library: Library, tmp_path: Path) -> None:
    paths = library.save(a_result(count=3), "ann", "job1")
    assert [path.relative_to(tmp_path).name for path in paths] == ["job1-7.png", "job1-8.png", "job1-9.png"]
    for seed, path in enumerate(paths, start=7):
        settings = read_png(path)
        assert settings is not None
        assert settings.request == a_request(seed=seed)
        picture = library.find(path.stem, "ann")
        assert picture is not None
        assert (picture.request, picture.path, picture.model) == (settings.request, path, "tiny")


def test_a_picture_knows_its_engine_and_why_it_was_not_another(library: Library, tmp_path: Path) -> None:
    result = replace(a_result(), note="Drawn on torch: <seamless>.")
    (path,) = library.save(result, "ann", "job1")
    settings = read_png(path)
    assert settings is not None
    assert settings.extra["engine"] == "paced"
    picture = library.find(path.stem, "ann")
    assert picture is not None
    assert (picture.engine, picture.note) == ("paced", result.note)
    facts = picture_facts(picture)
    assert facts["engine"] == "paced"
    assert use_button("note", "Note", facts["note"]) == "Drawn on torch: &lt;seamless&gt;."


def test_the_newest_come_first_and_only_to_their_owner(library: Library) -> None:
    for number in range(4):
        library.save(a_result(f"picture {number}"), "ann" if number % 2 else "ben", f"job{number}")
    assert [picture.request.prompt for picture in library.newest("ann")] == ["picture 3", "picture 1"]
    assert [picture.request.prompt for picture in library.newest("ben", 1)] == ["picture 2"]
    assert library.find("job0-7", "ann") is None
    assert library.newest("cat") == []


def test_pictures_of_one_job_are_found_together(library: Library) -> None:
    library.save(a_result(count=2, seed=99), "ann", "job1")
    library.save(a_result(), "ann", "job10")
    picture = library.find("job1-100", "ann")
    assert picture is not None
    assert [sibling.id for sibling in library.siblings(picture, "ann")] == ["job1-99", "job1-100"]
    assert library.siblings(picture, "ben") == []


def test_a_picture_deleted_by_hand_is_no_longer_shown(library: Library) -> None:
    (path,) = library.save(a_result(), "ann", "job1")
    path.unlink()
    assert library.newest("ann") == []


def test_the_index_can_be_made_anew_from_the_pictures(library: Library, tmp_path: Path) -> None:
    library.save(a_result('ä red, äpple: "quoted"\nline', negative_prompt="blue"), "ann", "job1")
    library.save(a_result(count=2, width=64), "ben", "job2")
    before = everything(library)
    library._database.write("DELETE FROM pictures")
    folder = before[0][0]
    (tmp_path / str(folder)).parent.joinpath("foreign.png").write_bytes(b"not a picture")
    Image.new("RGB", (8, 8)).save((tmp_path / str(folder)).parent / "bare.png")
    assert library.rebuild() == 3
    assert everything(library) == before


def test_an_outputs_folder_may_be_moved(library: Library, tmp_path: Path) -> None:
    library.save(a_result(), "ann", "job1")
    library._database.close()
    moved = tmp_path.with_name(tmp_path.name + "-moved")
    shutil.copytree(tmp_path, moved)
    database = Database(moved / "studio.sqlite3")
    (picture,) = Library(moved, database).newest("ann")
    database.close()
    assert picture.path.is_relative_to(moved)
    assert picture.path.is_file()


def test_pictures_of_the_command_line_are_indexed_without_an_owner(library: Library, tmp_path: Path) -> None:
    (path,) = library.save(a_result(), "ann", "job1")
    settings = read_png(path)
    assert settings is not None
    assert settings.request is not None
    save_png(Image.open(path), path.with_name("cli.png"), settings.request, model_name="m", model_id="1")
    os.utime(path.with_name("cli.png"), (1000, 1000))
    assert library.rebuild() == 2
    assert [picture.id for picture in library.newest("ann")] == ["job1-7"]
    assert ("cli", "", 1000.0) in [(row[1], row[2], row[3]) for row in everything(library)]


def test_pictures_of_the_command_line_show_on_the_page_of_this_machine_alone(
    library: Library, tmp_path: Path
) -> None:
    local, drawn = "browser:secret", tmp_path / "a-red-apple-7.png"
    assert library.newest(local) == []
    draw_by_command(drawn)
    draw_by_command(tmp_path / "a-red-apple-pie-9.png", "a red apple pie", 9)
    (tmp_path / "foreign.png").write_bytes(b"not a picture")
    assert {picture.id for picture in library.newest(local)} == {drawn.stem, "a-red-apple-pie-9"}
    assert library.newest("user:ann") == []
    assert library.find(drawn.stem, "user:ann") is None
    picture = library.find(drawn.stem, local)
    assert picture is not None
    assert library.siblings(picture, local) == [picture]
    drawn.unlink()
    draw_by_command(drawn, "a green apple")
    os.utime(drawn, (2e9, 2e9))
    assert library.newest(local, 1)[0].request.prompt == "a green apple"
    before = everything(library)
    assert library.rebuild() == 2
    assert everything(library) == before


def test_a_picture_that_comes_within_a_tick_of_the_clock_is_found(
    library: Library, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.library.TICK_NS", math.inf)
    draw_by_command(tmp_path / "one.png")
    assert len(library.newest("browser:secret")) == 1
    before = tmp_path.stat()
    draw_by_command(tmp_path / "two.png")
    os.utime(tmp_path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert len(library.newest("browser:secret")) == 2


def test_a_copy_does_not_take_the_place_of_the_picture_it_is_of(library: Library, tmp_path: Path) -> None:
    (path,) = library.save(a_result(), "ann", "job1")
    shutil.copy(path, tmp_path / path.name)
    assert [picture.path for picture in library.newest("ann")] == [path]
    library.rebuild()
    assert [picture.path for picture in library.newest("ann")] == [path]


def test_a_row_that_is_no_longer_allowed_hides_itself_alone(library: Library) -> None:
    library.save(a_result("old"), "ann", "job1")
    library.save(a_result("new", count=2), "ann", "job2")
    library._database.write(
        """UPDATE pictures SET request = '{"prompt": 3}' WHERE id IN ('job1-7', 'job2-8')"""
    )
    (picture,) = library.newest("ann")
    assert picture.id == "job2-7"
    assert library.siblings(picture, "ann") == [picture]
    assert library.find("job1-7", "ann") is None


def test_deleted_files_take_no_place_among_the_newest(library: Library) -> None:
    for number in range(9):
        (path,) = library.save(a_result(f"picture {number}"), "ann", f"job{number}")
        if number not in (0, 4):
            path.unlink()
    assert [picture.request.prompt for picture in library.newest("ann", 2)] == ["picture 4", "picture 0"]
    assert len(library.newest("ann", 1)) == 1


@pytest.mark.parametrize("damage", ["missing", "no database", "torn", "empty"])
def test_an_index_that_is_lost_or_damaged_is_made_anew(tmp_path: Path, damage: str) -> None:
    file = tmp_path / "studio.sqlite3"
    database = open_database(file)
    Library(tmp_path, database).save(a_result(count=3), "ann", "job1")
    database.close()
    whole = file.read_bytes()
    if damage == "missing":
        file.unlink()
    else:
        torn = whole[:4096] + b"\xff" * (len(whole) - 4096)
        file.write_bytes({"no database": b"hello " * 1000, "torn": torn, "empty": b""}[damage])
    context = open_context([], PacedEngine, settings=Settings(outputs=tmp_path))
    assert len(context.library.newest("ann")) == 3
    context.close()
    aside = [path.read_bytes() for path in tmp_path.glob("studio.sqlite3.damaged-*")]
    assert len(aside) == (damage in ("no database", "torn"))
    context = open_context([], PacedEngine, settings=Settings(outputs=tmp_path))
    assert not context.database.is_new
    context.close()


def test_a_database_that_may_not_be_opened_is_not_called_damaged(tmp_path: Path) -> None:
    (tmp_path / "studio.sqlite3").mkdir()
    with pytest.raises(StudioError, match="cannot be opened"):
        open_database(tmp_path / "studio.sqlite3")
    assert [path.name for path in tmp_path.iterdir()] == ["studio.sqlite3"]


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(prompt=st.text(max_size=60).filter(lambda words: "\0" not in words), owner=st.text(max_size=20))
def test_any_prompt_and_owner_survive_a_rebuild(library: Library, prompt: str, owner: str) -> None:
    library.save(a_result(prompt), owner, f"job{len(everything(library))}")
    before = everything(library)
    library.rebuild()
    assert everything(library) == before


def test_favourites_outlive_the_index(library: Library, tmp_path: Path) -> None:
    library.save(a_result(count=3), "ann", "job1")
    draw_by_command(tmp_path / "a-cat.png", "a cat")
    for name, owner in (("job1-8", "ann"), ("a-cat", "browser:x")):
        library.newest(owner)
        picture = library.find(name, owner)
        assert picture is not None
        assert not picture.favourite
        library.set_favourite(picture, True)
        library.set_favourite(picture, True)
    assert (tmp_path / "favourites.txt").read_text() == "job1-8\na-cat\n"
    before = everything(library)
    library.rebuild()
    assert everything(library) == before
    library._database.close()
    (tmp_path / "studio.sqlite3").unlink()
    database = Database(tmp_path / "studio.sqlite3")
    again = Library(tmp_path, database)
    again.rebuild()
    pictures, total = again.search("ann", favourites=True)
    assert ([picture.id for picture in pictures], total) == (["job1-8"], 1)
    assert pictures[0].favourite
    again.set_favourite(pictures[0], False)
    assert again.search("ann", favourites=True) == ([], 0)
    assert (tmp_path / "favourites.txt").read_text() == "a-cat\n"
    database.close()


def test_a_deleted_picture_is_gone_from_disk_index_and_favourites(library: Library, tmp_path: Path) -> None:
    keep, path = library.save(a_result(count=2), "ann", "job1")
    picture = library.find(path.stem, "ann")
    assert picture is not None
    library.set_favourite(picture, True)
    library.delete(picture)
    assert [row[0] for row in everything(library)] == [keep.relative_to(tmp_path).as_posix()]
    assert (tmp_path / "favourites.txt").read_text() == ""
    assert not path.exists()
    library.delete(picture)  # twice does no harm
    assert library.rebuild() == 1


def test_a_deletion_that_is_cut_off_does_not_bring_the_picture_back(tmp_path: Path) -> None:
    database = Database(tmp_path / "studio.sqlite3")
    library = Library(tmp_path, database)
    (path,) = library.save(a_result(), "ann", "job1")
    picture = library.find(path.stem, "ann")
    assert picture is not None
    database.close()
    with pytest.raises(sqlite3.ProgrammingError):
        library.delete(picture)  # dies between the file and its row
    database = Database(tmp_path / "studio.sqlite3")
    library = Library(tmp_path, database)
    assert library.search("ann") == ([], 0)
    assert everything(library) == []
    assert library.rebuild() == 0
    database.close()


def test_a_picture_that_cannot_be_deleted_keeps_its_row(library: Library) -> None:
    (path,) = library.save(a_result(), "ann", "job1")
    picture = library.find(path.stem, "ann")
    assert picture is not None
    path.unlink()
    path.mkdir()  # stands for a file that is held open, or a folder that may not be written to
    with pytest.raises(StudioError, match="cannot be deleted"):
        library.delete(picture)
    assert library.find(path.stem, "ann") == picture


def test_an_index_of_an_older_version_is_made_anew_and_jobs_stay(tmp_path: Path) -> None:
    database = Database(tmp_path / "studio.sqlite3")
    Library(tmp_path, database).save(a_result(count=2), "ann", "job1")
    columns = "id, owner, model, request, state, created"
    database.write(f"INSERT INTO jobs ({columns}) VALUES ('1', 'ann', 'm', '{{}}', 'done', 1.0)")
    database.write("ALTER TABLE pictures DROP COLUMN favourite")
    database.write("PRAGMA user_version = 0")
    database.close()
    context = open_context([], PacedEngine, settings=Settings(outputs=tmp_path))
    assert context.library.search("ann")[1] == 2
    assert len(context.database.read("SELECT * FROM jobs")) == 1
    context.close()
