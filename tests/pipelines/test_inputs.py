import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from models.errors import RequestError, StudioError
from pipelines.inputs import MAX_SIDE_PIXELS, InputStore, name_of, read_mask, read_picture

ORIENTATION = 0x0112


def noise(width: int = 40, height: int = 24, mode: str = "RGB") -> Image.Image:
    random = np.random.default_rng(0)
    return Image.fromarray(random.integers(0, 256, (height, width, len(mode)), dtype=np.uint8), mode)


def in_file(image: Image.Image, kind: str = "PNG", **options: object) -> io.BytesIO:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    buffer.seek(0)
    return buffer


def test_what_is_stored_is_found_by_its_content(tmp_path: Path) -> None:
    store, picture = InputStore(tmp_path / "outputs" / "inputs"), noise()
    name = store.add(read_picture(in_file(picture)))
    assert name == store.add(read_picture(picture))
    assert [file.name for file in store.folder.iterdir()] == [f"{name}.png"]
    assert (np.asarray(store.open(name)) == np.asarray(picture)).all()
    assert name_of(store.path(name).read_bytes()) == name


def test_a_picture_is_upright_opaque_and_without_what_a_camera_wrote(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    exif[0x010F] = "a secret camera"
    data = read_picture(in_file(noise(), "JPEG", exif=exif))
    assert b"secret" not in data
    with Image.open(io.BytesIO(data)) as image:
        assert image.size == (24, 40)
        assert not image.getexif()
    clear = Image.new("RGBA", (20, 20), (255, 0, 0, 0))
    assert Image.open(io.BytesIO(read_picture(clear))).getpixel((3, 3)) == (255, 255, 255)
    assert Image.open(io.BytesIO(read_mask(clear))).getpixel((3, 3)) == 0


def test_a_picture_larger_than_can_be_used_is_made_smaller() -> None:
    wide = Image.new("RGB", (MAX_SIDE_PIXELS + 100, 20))
    with Image.open(io.BytesIO(read_picture(wide))) as image:
        assert image.width == MAX_SIDE_PIXELS


def test_what_is_no_picture_is_refused_in_a_sentence(tmp_path: Path) -> None:
    for wrong in (b"", b"hello", b"\x89PNG\r\n\x1a\nbroken"):
        with pytest.raises(RequestError, match="cannot be used: not a readable picture"):
            read_picture(io.BytesIO(wrong))
    with pytest.raises(RequestError, match="too few"):
        read_mask(Image.new("L", (4, 4)))


def test_a_picture_that_is_gone_or_was_changed_is_not_drawn_from(tmp_path: Path) -> None:
    store = InputStore(tmp_path)
    with pytest.raises(RequestError, match="choose it again"):
        store.open("0" * 64)
    name = store.add(read_picture(noise()))
    store.path(name).write_bytes(read_picture(noise(48)))
    with pytest.raises(RequestError, match="not what it was"):
        store.open(name)


def test_a_folder_that_cannot_be_is_told(tmp_path: Path) -> None:
    (tmp_path / "inputs").write_text("in the way")
    with pytest.raises(StudioError, match="cannot be written"):
        InputStore(tmp_path / "inputs").add(read_picture(noise()))
