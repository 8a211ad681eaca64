"""Files that mean harm: none of them breaks the reader, and none makes it hold more than a text may be."""

import struct
import tracemalloc
import zlib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.export import encode_picture
from pipelines.metadata.settings import read_settings
from pipelines.metadata.texts import MAX_FILE_BYTES, MAX_TEXT_BYTES, read_json, read_texts
from pipelines.request import GenerationRequest
from tests.pipelines.metadata.pictures import IMAGE, png, with_chunk, with_exif
from tests.pipelines.test_request import RIGHT

BOMB = zlib.compress(bytes(500 * 2**20), 9)  # half a megabyte that unpacks to 500
ZTXT, ITXT = b"parameters\0\0", b"parameters\0\1\0\0\0"


@pytest.mark.parametrize(("kind", "head"), [(b"zTXt", ZTXT), (b"iTXt", ITXT)])
def test_a_text_that_unpacks_without_end_is_left_out_before_it_has(kind: bytes, head: bytes) -> None:
    data = with_chunk(kind, head + BOMB)
    tracemalloc.start()
    assert read_texts(data) == {}
    assert tracemalloc.get_traced_memory()[1] < 8 * MAX_TEXT_BYTES
    tracemalloc.stop()


@pytest.mark.parametrize(
    ("kind", "body", "text"),
    [
        (b"tEXt", b"parameters\0caf\xe9", "caf\xe9"),
        (b"zTXt", ZTXT + zlib.compress(b"caf\xe9"), "caf\xe9"),
        (b"iTXt", b"parameters\0\0\0en\0\0" + "蘋果".encode(), "蘋果"),
        (b"iTXt", ITXT + zlib.compress("蘋果".encode()), "蘋果"),
        (b"iTXt", b"parameters\0\0\0\0\0\xff", "\ufffd"),
        (b"zTXt", ZTXT + b"no zlib", None),
        (b"iTXt", b"parameters", ""),
        (b"tEXt", b"", None),
        (b"tEXt", b"parameters\0" + bytes(MAX_TEXT_BYTES), None),
    ],
)
def test_the_three_kinds_of_text_in_a_png(kind: bytes, body: bytes, text: str | None) -> None:
    assert read_texts(with_chunk(kind, body)).get("parameters") == text


def test_many_texts_together_are_bounded_too() -> None:
    body = b"\0" + bytes(MAX_TEXT_BYTES - 10)
    chunks = b"".join(
        struct.pack(">I", len(body) + 2) + b"tEXt" + b"%02d" % number + body + bytes(4)
        for number in range(20)
    )
    data = png({})
    assert sum(map(len, read_texts(data[:33] + chunks + data[33:]).values())) <= 4 * MAX_TEXT_BYTES


def test_pixels_are_never_unpacked() -> None:
    header = struct.pack(">IIBBBBB", 100_000, 100_000, 8, 6, 0, 0, 0)
    data = bytearray(png({"parameters": "a cat\nSteps: 5, Seed: 3"}))
    data[16:29] = header
    tracemalloc.start()
    assert read_settings(bytes(data)) is not None
    assert tracemalloc.get_traced_memory()[1] < 2**20
    tracemalloc.stop()


def test_a_webp_that_says_it_is_huge_is_refused() -> None:
    data = bytearray(with_exif("WEBP", {}, {0x9286: b"UNICODE\0" + "Steps: 5".encode("utf-16-be")}))
    place = data.index(b"VP8X") + 12
    data[place : place + 6] = (16_382).to_bytes(3, "little") * 2
    assert read_texts(bytes(data)) == {}


def test_a_file_too_large_is_not_opened(tmp_path: Path) -> None:
    with open(tmp_path / "a.png", "wb") as file:
        file.write(png({"parameters": "a cat\nSteps: 5, Seed: 3"}))
        file.truncate(MAX_FILE_BYTES + 1)
    assert read_texts(tmp_path / "a.png") == {}


@pytest.mark.parametrize(
    "text", ["[" * 100_000, '{"a":' * 100_000, "9" * 5000, "", "{", " " * (MAX_TEXT_BYTES + 1), '"\ud800']
)
def test_json_that_says_nothing_or_too_much_is_nothing(text: str) -> None:
    assert read_json(text) is None


def damaged(data: st.DataObject, whole: bytes) -> bytes:
    parts = bytearray(whole)
    for _ in range(data.draw(st.integers(1, 6))):
        parts[data.draw(st.integers(0, len(parts) - 1))] = data.draw(st.integers(0, 255))
    return bytes(parts[: data.draw(st.integers(0, len(parts)))])


REQUEST = GenerationRequest(**RIGHT)
WHOLE = [
    encode_picture(IMAGE, format, REQUEST, model_name="m", model_id="1") for format in ("PNG", "JPEG", "WebP")
]
WHOLE.append(with_exif("AVIF", {}, {0x9286: b"UNICODE\0" + "Steps: 5".encode("utf-16-be")}))


@pytest.mark.parametrize("whole", WHOLE, ids=["PNG", "JPEG", "WebP", "AVIF"])
@given(data=st.data())
@settings(max_examples=100, deadline=None)
def test_no_damage_breaks_the_reader(whole: bytes, data: st.DataObject) -> None:
    read_settings(damaged(data, whole))
