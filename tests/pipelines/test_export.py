import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from models.errors import StudioError
from pipelines.export import SUFFIXES, PictureFormat, encode_picture
from pipelines.files import write_whole
from pipelines.metadata.settings import read_settings
from pipelines.metadata.xmp import make_packet, read_packet
from pipelines.request import MAX_PROMPT_CHARACTERS, GenerationRequest
from tests.pipelines.test_request import RIGHT, requests

REQUEST = GenerationRequest(**RIGHT)
IMAGE = Image.fromarray((np.mgrid[0:64, 0:64, 0:3].sum(0) * 2).astype(np.uint8))
FORMATS = list(SUFFIXES)
LONGEST = "\U0001f34e" * MAX_PROMPT_CHARACTERS


def encode(
    format: PictureFormat, request: GenerationRequest = REQUEST, image: Image.Image = IMAGE, **extra: Any
) -> bytes:
    return encode_picture(image, format, request, model_name="starter", model_id="0123", extra=extra)


@pytest.mark.parametrize("format", FORMATS)
@given(request=requests(), extra=st.dictionaries(st.text(max_size=9), st.text() | st.integers() | st.none()))
@settings(max_examples=60)
def test_what_is_written_is_read_back_exactly(
    format: PictureFormat, request: GenerationRequest, extra: dict[str, Any]
) -> None:
    request = request.resolve().for_image(0)
    data = encode_picture(
        IMAGE, format, request, model_name="\U0001f34e <&>", model_id="\0", extra={"owner": extra}
    )
    found = read_settings(data)
    assert found is not None
    assert found.request == request
    assert (found.program, found.model_name, found.model_id) == ("Latent Studio", "\U0001f34e <&>", "\0")
    assert found.extra == {"owner": extra}
    assert found.left == {}


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("prompt", [LONGEST, "x" * MAX_PROMPT_CHARACTERS, "&lt;\r\n\x0b\ufffe\u0130", ""])
def test_the_longest_and_the_strangest_prompts_too(format: PictureFormat, prompt: str) -> None:
    request = GenerationRequest(**(RIGHT | {"prompt": prompt, "negative_prompt": prompt}))
    data = encode(format, request)
    found = read_settings(data)
    assert found is not None
    assert found.request == request
    with Image.open(io.BytesIO(data)) as image:
        image.load()


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P", "L"])
def test_the_picture_is_in_the_file(format: PictureFormat, mode: str) -> None:
    drawn = IMAGE.quantize(64) if mode == "P" else IMAGE.convert(mode)
    with Image.open(io.BytesIO(encode(format, image=drawn))) as image:
        assert image.format == format.upper()
        seen = np.asarray(image.convert("RGB"), dtype=float)
    wanted = np.asarray(drawn.convert("RGB"), dtype=float)
    assert np.abs(seen - wanted).mean() < (0.01 if format == "PNG" else 6)


def test_what_is_transparent_becomes_white_in_a_jpeg() -> None:
    clear = Image.new("RGBA", (16, 16), (0, 0, 0, 0))
    with Image.open(io.BytesIO(encode("JPEG", image=clear))) as image:
        assert image.getpixel((8, 8)) == (255, 255, 255)


@pytest.mark.parametrize("size", [(16_384, 1), (1, 16_384), (9000, 9000)])
def test_a_picture_too_large_is_refused(size: tuple[int, int]) -> None:
    with pytest.raises(StudioError, match="too large to be saved"):
        encode("WebP", image=Image.new("1", size))


@pytest.mark.parametrize("format", FORMATS)
def test_only_the_request_of_one_picture_goes_into_it(format: PictureFormat) -> None:
    for wrong in ({"count": 2}, {"seed": None}):
        with pytest.raises(ValueError, match="count 1"):
            encode(format, GenerationRequest(**(RIGHT | wrong)))


def test_a_file_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    write_whole(tmp_path / "a.jpg", b"one")
    write_whole(tmp_path / "a.jpg", b"two")
    (tmp_path / "folder").mkdir()
    for wrong in (tmp_path / "a.jpg" / "b.jpg", tmp_path / "folder"):
        with pytest.raises(StudioError, match="cannot be written"):
            write_whole(wrong, b"three")
    assert (tmp_path / "a.jpg").read_bytes() == b"two"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.jpg", "folder"]


@given(st.text(st.characters(codec="ascii")))
def test_any_ascii_text_passes_through_xmp(text: str) -> None:
    assert read_packet(make_packet(text)) == text


@given(st.binary(max_size=300), st.lists(st.binary(max_size=120), max_size=3))
def test_no_packet_breaks_the_reader(packet: bytes, segments: list[bytes]) -> None:
    read_packet(packet, segments)
