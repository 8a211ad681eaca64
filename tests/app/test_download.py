import os
import zipfile
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from app import download
from app.download import pack
from app.picture import Picture
from models.errors import RequestError
from pipelines.metadata.settings import read_settings
from pipelines.png import save_png
from tests.app.engines import a_request


def a_picture(folder: Path, seed: int = 7, prompt: str = "a red apple", **changes: Any) -> Picture:
    request = a_request(prompt, seed=seed, **changes)
    path = folder / f"{seed}.png"
    image = Image.new("RGB", (32, 32), (seed, 90, 120))
    save_png(image, path, request, model_name="tiny", model_id="0123", extra={"created": 1.5})
    return Picture(id=path.stem, path=path, created=1e9, model="tiny", request=request, favourite=False)


def test_one_picture_is_the_file_itself(tmp_path: Path) -> None:
    picture = a_picture(tmp_path)
    path = pack([picture], "PNG", "[prompt]", tmp_path / "served")
    assert path.name == "a-red-apple.png"
    assert path.read_bytes() == picture.path.read_bytes()


@pytest.mark.parametrize("format", ["JPEG", "WebP"])
def test_another_format_keeps_every_setting(tmp_path: Path, format: Any) -> None:
    picture = a_picture(tmp_path)
    before, after = read_settings(picture.path), read_settings(pack([picture], format, "x", tmp_path))
    assert after is not None
    assert after == before


def test_equal_names_are_numbered_also_where_a_file_system_knows_no_case(tmp_path: Path) -> None:
    prompts = ["Apple", "apple", "apple", "pear"]
    pictures = [a_picture(tmp_path, seed, prompt) for seed, prompt in enumerate(prompts)]
    with zipfile.ZipFile(pack(pictures, "PNG", "[prompt]", tmp_path / "served")) as archive:
        assert archive.namelist() == ["Apple.png", "apple-2.png", "apple-3.png", "pear.png"]
        assert archive.testzip() is None
        for picture, name in zip(pictures, archive.namelist(), strict=True):
            assert archive.read(name) == picture.path.read_bytes()


def test_a_download_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pictures = [a_picture(tmp_path, seed) for seed in range(4)]
    with pytest.raises(RequestError, match="no picture to download"):
        pack([], "PNG", "x", tmp_path)
    with pytest.raises(RequestError, match="At most 200 pictures go into one download, not 201"):
        pack([pictures[0]] * 201, "PNG", "x", tmp_path)
    monkeypatch.setattr(download, "MAX_ARCHIVE_BYTES", 1000)
    with pytest.raises(RequestError, match="choose fewer pictures"):
        pack(pictures, "PNG", "x", tmp_path / "served")


def test_downloads_of_earlier_are_cleared_away(tmp_path: Path) -> None:
    picture = a_picture(tmp_path)
    old, fresh = (pack([picture], "PNG", "x", tmp_path / "served") for _ in range(2))
    os.utime(old.parent, (1, 1))
    last = pack([picture], "PNG", "x", tmp_path / "served")
    assert (old.exists(), fresh.exists(), last.exists()) == (False, True, True)
