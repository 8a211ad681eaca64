import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from models.errors import DataError
from training.data.taught import MAX_PICTURES, VIEWS, captions_of, checked_name, write_taught


def a_picture(path, size=(60, 40), colour="red"):
    """A colour with a black square in its middle."""
    image = Image.new("RGB", size, colour)
    width, height = size
    image.paste("black", (width // 3, height // 3, 2 * width // 3, 2 * height // 3))
    image.save(path)
    return path


def rows(folder):
    return [json.loads(line) for line in (folder / "metadata.jsonl").read_text().splitlines()]


def test_each_picture_has_its_views_and_one_that_is_held_out(tmp_path: Path) -> None:
    files = [a_picture(tmp_path / f"{number}.png") for number in range(3)]
    write_taught(files, "octopus", tmp_path / "out", 32)
    found = rows(tmp_path / "out")
    assert [row["split"] for row in found].count("train") == 3 * VIEWS
    assert [row["split"] for row in found].count("validation") == 3
    assert {tuple(row["captions"]) for row in found} == {("octopus", "an octopus")}
    images = [np.asarray(Image.open(tmp_path / "out" / row["file_name"])) for row in found]
    assert {image.shape for image in images} == {(32, 32, 3)}
    assert len({image.tobytes() for image in images[: VIEWS + 1]}) == VIEWS  # the picture itself twice


def test_a_picture_is_shown_whole_on_its_own_background(tmp_path: Path) -> None:
    write_taught([a_picture(tmp_path / "a.png", (64, 32))], "dog", tmp_path / "out", 64)
    for row in rows(tmp_path / "out"):
        image = np.asarray(Image.open(tmp_path / "out" / row["file_name"])).astype(int)
        assert abs(image[[0, 0, -1, -1], [0, -1, 0, -1]] - (255, 0, 0)).max() <= 2
        black = (image.sum(2) < 60).sum()
        assert 0.5 < black / (64 / 3 * 32 / 3) < 1.3


def test_the_same_pictures_make_the_same_folder(tmp_path: Path) -> None:
    file = a_picture(tmp_path / "a.png")
    for name in ("one", "two"):
        write_taught([file], "dog", tmp_path / name, 32)
    for path in (tmp_path / "one").iterdir():
        assert path.read_bytes() == (tmp_path / "two" / path.name).read_bytes()


@pytest.mark.parametrize("count", [0, MAX_PICTURES + 1])
def test_too_few_or_too_many_pictures_are_refused(tmp_path: Path, count: int) -> None:
    with pytest.raises(DataError, match=f"not {count}"):
        write_taught([a_picture(tmp_path / "a.png")] * count, "dog", tmp_path / "out", 32)


def test_a_file_that_is_no_picture_is_named(tmp_path: Path) -> None:
    (tmp_path / "notes.png").write_text("no picture")
    with pytest.raises(DataError, match=r"notes\.png"):
        write_taught([tmp_path / "notes.png"], "dog", tmp_path / "out", 32)


def test_names_keep_to_what_a_tag_and_a_file_can_have() -> None:
    assert checked_name("  my   old dog ") == "my old dog"
    assert checked_name("Zoë's 7_up-") == "Zoë's 7_up-"
    assert captions_of("grapes") == ["grapes"]
    for name in ("", " ", "a:b", "a<b", "a/b", "..", ".hidden", "-x", "a\\b", "a.b", "a" * 61, "(a)"):
        with pytest.raises(DataError):
            checked_name(name)
