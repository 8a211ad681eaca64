import os
import string
from contextlib import suppress
from pathlib import Path, PureWindowsPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.errors import RequestError
from models.names import MAX_NAME_BYTES, file_in, one_spelling, why_no_name

GOOD = [
    "a", "red apple", "Add Detail (LoRA) v1.2", "紅蘋果", "émile", "100%", "a..b", "_x", "-x", "🍎", "com10",
]  # fmt: skip
BAD = [
    "", ".", "..", "...", " a", "a ", ".hidden", "a.", "a/b", "a\\b", "C:", "c:x", "\\\\host\\share", "nul",
    "NUL.txt", "com1", "COM\N{SUPERSCRIPT TWO}", "lpt9.tar.gz", "aux ", "con .txt", "a\0b", "a\nb", "a\x7fb",
    "a\u202eb", "a\u200bb", "a*", "what?", "<x>", "a|b", 'say "x"', "\ud800", "\ue000", "é" * 101,
    "x" * (MAX_NAME_BYTES + 1),
]  # fmt: skip
# What escapes are made of, so that they are met often.
PIECES = st.sampled_from(
    ["..", ".", "/", "\\", "~", "C:", "con", "nul", " ", "a", "b", "\0", "%2e", "\u2215", "link"]
)


@pytest.mark.parametrize("name", GOOD)
def test_what_people_call_things_is_a_name(name: str) -> None:
    assert why_no_name(name) is None


@pytest.mark.parametrize("name", BAD)
def test_what_some_system_reads_as_something_else_is_none(name: str) -> None:
    assert why_no_name(name)


@given(st.text(max_size=30) | st.lists(PIECES, max_size=8).map("".join))
def test_a_name_is_one_part_of_a_path_everywhere_and_may_be_made(name: str) -> None:
    if why_no_name(name) is None:
        assert Path(name).parts == (name,) == PureWindowsPath(name).parts
        assert not PureWindowsPath(name).is_absolute()
        assert not PureWindowsPath(name).is_reserved()
        assert not set(name) & set(string.whitespace[1:])
        assert len(os.fsencode(name)) <= MAX_NAME_BYTES


@given(name=st.text(max_size=30) | st.lists(PIECES, max_size=8).map("".join))
def test_no_name_leads_out_of_a_folder(tmp_path_factory: pytest.TempPathFactory, name: str) -> None:
    folder = tmp_path_factory.getbasetemp() / "home"
    (folder / "a").mkdir(parents=True, exist_ok=True)
    if not (folder / "link").exists():
        (folder / "link").symlink_to("/")
    with suppress(RequestError):
        file = file_in(folder, name)
        assert file.resolve().is_relative_to(folder.resolve())
        assert file.resolve() != folder.resolve()


def test_a_link_that_stays_is_followed_and_one_that_leaves_is_not(tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "outside.txt").touch()
    (tmp_path / "home/one.txt").touch()
    (tmp_path / "home/two.txt").symlink_to("one.txt")
    (tmp_path / "home/three.txt").symlink_to("../outside.txt")
    assert file_in(tmp_path / "home", "two.txt") == tmp_path / "home/two.txt"
    with pytest.raises(RequestError, match="leads out of its folder"):
        file_in(tmp_path / "home", "three.txt")


def test_a_root_that_is_a_link_itself_is_a_root(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    assert file_in(tmp_path / "link", "deep/a.txt") == tmp_path / "link/deep/a.txt"


def test_names_that_are_one_file_on_some_system_have_one_spelling() -> None:
    for one, other in (("A.PNG", "a.png"), ("e\u0301", "\u00e9"), ("\uff41", "a"), ("\u1e9e", "ss")):
        assert one_spelling(one) == one_spelling(other)
    assert one_spelling("a") != one_spelling("b")
