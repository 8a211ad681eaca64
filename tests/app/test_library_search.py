import os
import time
from pathlib import Path

import pytest

from app.library import Library
from tests.app.libraries import a_result, everything, prompts


def test_pictures_are_searched_by_words_and_settings_each_owners_apart(library: Library) -> None:
    library.save(a_result("a red apple", seed=1), "ann", "job1")
    library.save(a_result("a RED car", seed=2, sampler="DDIM", width=64), "ann", "job2")
    library.save(a_result("a red boat", seed=3), "ben", "job3")
    assert prompts(library.search("ann", "red")) == ["a RED car", "a red apple"]
    assert prompts(library.search("ann", "apple RED")) == ["a red apple"]
    assert prompts(library.search("ann", "sampler:ddim size:64x32")) == ["a RED car"]
    assert prompts(library.search("ann", "seed:1-2")) == ["a RED car", "a red apple"]
    assert library.search("ann", "boat") == ([], 0)
    assert prompts(library.search("ben")) == ["a red boat"]


def test_pages_join_without_a_gap_and_know_how_many_there_are(library: Library) -> None:
    for number in range(7):
        library.save(a_result(f"picture {number}"), "ann", f"job{number}")
    found = [library.search("ann", page=page, limit=3) for page in range(4)]
    assert [prompt for page in found for prompt in prompts(page)] == [
        f"picture {n}" for n in range(6, -1, -1)
    ]
    assert [(len(pictures), total) for pictures, total in found] == [(3, 7), (3, 7), (1, 7), (0, 7)]


def test_files_deleted_by_hand_leave_no_gap_in_a_page(library: Library) -> None:
    for number in range(6):
        (path,) = library.save(a_result(f"picture {number}"), "ann", f"job{number}")
        if number in (5, 4, 2):
            path.unlink()
    pictures, total = library.search("ann", limit=2)
    assert prompts((pictures, total)) == ["picture 3", "picture 1"]
    assert len(everything(library)) == 3  # the rows of missing files are gone
    assert prompts(library.search("ann", page=1, limit=2)) == ["picture 0"]


@pytest.mark.slow
def test_ten_thousand_pictures_stay_fast(library: Library, tmp_path: Path) -> None:
    (path,) = library.save(a_result("a red apple"), "ann", "job1")
    for number in range(10_000):
        os.link(path, path.with_name(f"many{number}-7.png"))
    started = time.thread_time()  # the load of other programs and threads is not counted
    assert library.rebuild() == 10_001
    assert time.thread_time() - started < 30
    library._database.write("UPDATE pictures SET words = id, created = rowid WHERE id LIKE 'many%'")
    for words, page, total in (
        ("", 0, 10_001),
        ("", 200, 10_001),
        ("many99", 0, 111),
        ("seed:7 9", 50, 3439),
    ):
        started = time.thread_time()
        pictures, found = library.search("ann", words, page=page)
        assert time.thread_time() - started < 0.5
        assert (bool(pictures), found) == (True, total)
