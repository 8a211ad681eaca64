import io
import json
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from models.errors import StudioError
from pipelines.infotext import write_infotext
from pipelines.png import read_png, save_png
from pipelines.request import GenerationRequest
from tests.pipelines.test_request import RIGHT, requests

REQUEST = GenerationRequest(**RIGHT)
IMAGE = Image.fromarray(np.arange(8 * 8 * 3, dtype=np.uint8).reshape(8, 8, 3))


def save(path: Path, request: GenerationRequest = REQUEST, **options: Any) -> None:
    save_png(IMAGE, path, request, model_name="starter", model_id="0123456789", **options)


def png(chunks: dict[str, str]) -> io.BytesIO:
    info, file = PngInfo(), io.BytesIO()
    for name, text in chunks.items():
        info.add_text(name, text)
    IMAGE.save(file, "PNG", pnginfo=info)
    file.seek(0)
    return file


@given(request=requests())
@settings(max_examples=60)
def test_what_is_written_is_read_back_exactly(
    tmp_path_factory: pytest.TempPathFactory, request: GenerationRequest
) -> None:
    request = request.resolve().for_image(0)
    path = tmp_path_factory.getbasetemp() / "round-trip.png"
    save(path, request, extra={"owner": "ann", "created": 1.5})
    found = read_png(path)
    assert found is not None
    assert found.request == request
    assert (found.model_name, found.model_id) == ("starter", "0123456789")
    assert found.extra == {"owner": "ann", "created": 1.5}
    assert GenerationRequest.from_options(found.options, {}) == request


def test_pixels_and_the_text_for_other_programs_are_in_the_file(tmp_path: Path) -> None:
    save(tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as image:
        assert image.text["parameters"] == write_infotext(REQUEST, "starter", "0123456789", "Latent Studio")  # type: ignore[attr-defined]
        assert json.loads(image.text["latent_studio"])["request"] == REQUEST.to_dict()  # type: ignore[attr-defined]
        assert np.array_equal(np.asarray(image), np.asarray(IMAGE))
    assert [file.name for file in tmp_path.iterdir()] == ["a.png"]


def test_each_picture_of_a_job_has_its_own_seed(tmp_path: Path) -> None:
    job = GenerationRequest(**(RIGHT | {"count": 4}))
    for index in range(4):
        save(tmp_path / f"{index}.png", job.for_image(index))
    found = [read_png(tmp_path / f"{index}.png") for index in range(4)]
    assert [(f.request.seed, f.request.count) for f in found if f and f.request] == [
        (7 + i, 1) for i in range(4)
    ]
    for wrong in (job, GenerationRequest(**(RIGHT | {"seed": None}))):
        with pytest.raises(ValueError, match="count 1"):
            save(tmp_path / "x.png", wrong)


def test_a_file_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    (tmp_path / "a.png").mkdir()
    (tmp_path / "file").touch()
    for wrong in (tmp_path / "a.png", tmp_path / "file" / "a.png"):
        with pytest.raises(StudioError, match="cannot be written"):
            save(wrong)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["a.png", "file"]
    save(tmp_path / "b.png")
    save(tmp_path / "b.png", GenerationRequest(**(RIGHT | {"seed": 9})))
    found = read_png(tmp_path / "b.png")
    assert found is not None
    assert found.request is not None
    assert found.request.seed == 9


def test_other_programs_pictures_give_options() -> None:
    text = "a cat\nNegative prompt: dog\nSteps: 20, Sampler: DPM++ 2M Karras, Seed: 1234678909, Model: x"
    found = read_png(png({"parameters": text}))
    assert found is not None
    assert found.request is None
    assert found.options["prompt"] == "a cat"
    assert found.options["sampler"] == "DPM++ 2M"
    assert found.options["schedule"] == "Karras"
    assert found.options["seed"] == 1234678909
    assert found.model_name == "x"


def test_text_behind_the_pixels_is_found(tmp_path: Path) -> None:
    data = png({}).getvalue()
    body = b"tEXtparameters\0a cat\nSteps: 5, Sampler: Euler, Seed: 3"
    chunk = struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))
    (tmp_path / "late.png").write_bytes(data[:-12] + chunk + data[-12:])
    found = read_png(tmp_path / "late.png")
    assert found is not None
    assert found.options["seed"] == 3


@pytest.mark.parametrize(
    "ours",
    [
        "",
        "{",
        "[]",
        "null",
        "{}",
        '{"request": 3}',
        '{"request": {"steps": 0}}',
        "[" * 100_000,
        json.dumps({"request": REQUEST.to_dict() | {"steps": 10**6}, "model_name": "m", "model_id": "1"}),
        json.dumps({"request": REQUEST.to_dict() | {"new": 1}, "model_name": "m", "model_id": "1"}),
        '{"request": {"seed": ' + "9" * 5000 + "}}",
    ],
)
def test_a_damaged_chunk_of_ours_is_passed_over(ours: str) -> None:
    assert read_png(png({"latent_studio": ours})) is None
    found = read_png(png({"latent_studio": ours, "parameters": "a cat\nSteps: 5, Sampler: Euler, Seed: 3"}))
    assert found is not None
    assert found.request is None
    assert found.options["prompt"] == "a cat"


def test_what_is_no_png_has_no_settings(tmp_path: Path) -> None:
    jpeg = io.BytesIO()
    IMAGE.save(jpeg, "JPEG")
    for number, data in enumerate((b"", b"x", b"\x89PNG\r\n\x1a\n", jpeg.getvalue())):
        (tmp_path / f"{number}.png").write_bytes(data)
        assert read_png(tmp_path / f"{number}.png") is None
    assert read_png(tmp_path / "missing.png") is None
    assert read_png(tmp_path) is None
    assert read_png(png({})) is None


def test_text_that_unpacks_without_end_is_refused() -> None:
    body = b"zTXtparameters\0\0" + zlib.compress(b"Steps: 1, " * 2_000_000, 9)
    chunk = struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))
    data = png({}).getvalue()
    assert read_png(io.BytesIO(data[:33] + chunk + data[33:])) is None


def test_a_picture_too_large_to_open_is_refused() -> None:
    data = bytearray(png({}).getvalue())
    data[16:24] = struct.pack(">II", 100_000, 100_000)
    data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
    assert read_png(io.BytesIO(data)) is None


@given(st.data())
@settings(max_examples=200)
def test_no_damage_breaks_the_reader(data: st.DataObject) -> None:
    damaged = bytearray(png({"parameters": "a cat\nSteps: 5, Sampler: Euler, Seed: 3", "x": "y"}).getvalue())
    for _ in range(data.draw(st.integers(1, 6))):
        damaged[data.draw(st.integers(8, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    read_png(io.BytesIO(bytes(damaged[: data.draw(st.integers(0, len(damaged)))])))
