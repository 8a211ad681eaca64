"""Pictures of other projects, whole, broken and hostile ones, as people upload them."""

import io
import json
import os
import random
import struct
import subprocess
import sys
import zlib
from collections import Counter
from functools import cache
from pathlib import Path
from types import SimpleNamespace

import gradio as gr
import pytest
from PIL import Image, PngImagePlugin

from app.tabs.uploads import MAX_LAYERS, picture_editor, picture_file
from pipelines.inputs import MAX_SIDE_PIXELS, read_picture
from pipelines.metadata.settings import read_settings
from pipelines.pictures import (
    MAX_COPIED_PIXELS,
    MAX_JPEG_PIXELS,
    MAX_PIXELS,
    MAX_PROGRESSIVE_PIXELS,
    MAX_WEBP_PIXELS,
)
from tests.corpora import picture_files
from tests.newcomer import ROOT

MAX_BYTES_ABOVE_IDLE = 400e6
MAX_SECONDS_EACH = 60
SAMPLED = [
    pytest.param(100, id="sampled", marks=pytest.mark.slow),
    pytest.param(None, id="whole", marks=pytest.mark.exhaustive),
]
# Says the name first: after a crash of the process itself, the last one is to blame. VmHWM is the peak.
UPLOAD = """
import faulthandler, io, json, sys
from pathlib import Path
from types import SimpleNamespace
import gradio
from PIL import Image
from app.tabs.uploads import picture_editor
from models.errors import RequestError
from pipelines.inputs import read_mask, read_picture
from pipelines.metadata.settings import read_settings

def memory(what):
    return 1024 * int(Path("/proc/self/status").read_text().split(what + ":")[1].split()[0])

def in_editor(file):
    sent = SimpleNamespace(path=file)
    return editor.preprocess(SimpleNamespace(id=None, background=sent, layers=[sent], composite=sent))

Image.init()
editor = picture_editor(render=False)
idle = memory("VmRSS")
for line in sys.stdin:
    name = line.rstrip("\\n")
    print(name, end="\\t", flush=True)
    faulthandler.dump_traceback_later(float(sys.argv[1]), exit=True)
    Path("/proc/self/clear_refs").write_text("5")
    said = []
    for open_it in (read_picture, read_mask, in_editor):
        try:
            open_it(Path(name))
            said.append("")
        except RequestError as error:
            said.append(str(error))
        except gradio.Error as error:
            said.append(error.message)
    read_settings(name)
    print(json.dumps([memory("VmHWM") - idle, said]), flush=True)
"""


def uploaded(files: list[Path]) -> dict[str, tuple[float, list[str]]]:
    """What was said of each file as picture, as mask and in the editor ("" for a picture), and its memory."""
    done = subprocess.run(
        [sys.executable, "-X", "faulthandler", "-c", UPLOAD, str(MAX_SECONDS_EACH)],
        input="\n".join(map(str, files)), capture_output=True, text=True, errors="replace", cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1"}, check=False,
    )  # fmt: skip
    assert done.returncode == 0, f"at {done.stdout.splitlines()[-1:]}: {done.stderr[-3000:]}"
    lines = [line.rpartition("\t") for line in done.stdout.splitlines()]
    return {name: tuple(json.loads(answer)) for name, _, answer in lines}


def judge(answers: dict[str, tuple[float, list[str]]]) -> None:
    for name, (peak, said) in answers.items():
        assert peak < MAX_BYTES_ABOVE_IDLE, f"{name} took {peak / 1e6:.0f} MB"
        assert len({bool(words) for words in said}) == 1, (name, said)
        for words in filter(None, said):
            assert "\n" not in words
            assert "cannot be used: " in words
        assert not said[0] or name in said[0]


@pytest.mark.parametrize("count", SAMPLED)
def test_every_upload_is_opened_or_refused_by_name_with_little_memory(count: int | None) -> None:
    files = picture_files()
    assert len(files) > 1500
    if count is not None:
        seed = random.randrange(10**6)
        print(f"sampled with the seed {seed}")
        files = random.Random(seed).sample(files, count)
    answers = uploaded(files)
    assert len(answers) == len(files)
    judge(answers)
    verdicts = Counter("refused" if said[0] else "opened" for _, said in answers.values())
    print(verdicts, f"peak {max(peak for peak, _ in answers.values()) / 1e6:.0f} MB above idle")


def saved(folder: Path, name: str, mode: str, side: int, **options: object) -> Path:
    image = Image.new(mode, (side, side))
    image.save(folder / name, **options)
    return folder / name


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


@cache
def a_bomb() -> bytes:
    """Five hundred megabytes, packed."""
    pack = zlib.compressobj(9)
    return b"".join(pack.compress(b"\0" * 10**7) for _ in range(50)) + pack.flush()


def with_chunk(folder: Path, name: str, kind: bytes, head: bytes) -> Path:
    """A PNG with a bomb in one of its chunks."""
    buffer = io.BytesIO()
    Image.new("RGB", (32, 32), "red").save(buffer, "PNG")
    data = buffer.getvalue()
    (folder / name).write_bytes(data[:33] + chunk(kind, head + a_bomb()) + data[33:])
    return folder / name


@pytest.mark.exhaustive
@pytest.mark.parametrize("kind", ["png", "transparent", "webp", "jpeg", "progressive"])
def test_the_largest_pictures_that_are_taken_stay_within_memory(kind: str, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    options = {
        "png": ("a.png", "RGB", MAX_PIXELS, {"exif": exif}),
        "transparent": ("a.png", "RGBA", MAX_COPIED_PIXELS, {"exif": exif}),
        "webp": ("a.webp", "RGBA", MAX_WEBP_PIXELS, {"lossless": True, "method": 0}),
        "jpeg": ("a.jpg", "RGB", MAX_JPEG_PIXELS, {"exif": exif}),
        "progressive": ("a.jpg", "RGB", MAX_PROGRESSIVE_PIXELS, {"progressive": True, "subsampling": 0}),
    }
    name, mode, pixels, how = options[kind]
    file = saved(tmp_path, name, mode, int(pixels**0.5), **how)
    answers = uploaded([file])
    judge(answers)
    assert answers[str(file)][1] == ["", "", ""]


@pytest.mark.slow
def test_bombs_are_refused_before_they_go_off(tmp_path: Path) -> None:
    many = [
        saved(tmp_path, "many.png", "1", 9000),
        saved(tmp_path, "many.gif", "P", 9000),
        with_chunk(tmp_path, "ztxt.png", b"zTXt", b"parameters\0\0"),
        with_chunk(tmp_path, "itxt.png", b"iTXt", b"parameters\0\1\0\0\0"),
        with_chunk(tmp_path, "iccp.png", b"iCCP", b"profile\0\0"),
    ]
    answers = uploaded(many)
    judge(answers)
    for file in many[:2]:
        assert "9000x9000 pixels are too many" in answers[str(file)][1][0]


WITH_LITTLE_MEMORY = """
import resource, sys
from pathlib import Path
from models.errors import RequestError
from pipelines.inputs import read_picture

used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 60 * 2**20, resource.RLIM_INFINITY))
for file in sys.argv[1:]:
    try:
        print(len(read_picture(Path(file))) > 0)
    except RequestError as error:
        print(error)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="only Linux holds a process to an address space")
def test_a_picture_that_memory_does_not_hold_is_refused_and_the_next_smaller_one_opened(
    tmp_path: Path,
) -> None:
    files = [saved(tmp_path, "large.png", "RGB", 6000), saved(tmp_path, "small.png", "RGB", 600)]
    done = subprocess.run(
        [sys.executable, "-c", WITH_LITTLE_MEMORY, *files],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    large, small = done.stdout.splitlines()
    assert f"{files[0]} cannot be used: there is not enough memory" in large
    assert small == "True"


def test_a_text_that_is_too_long_is_no_setting(tmp_path: Path) -> None:
    info = PngImagePlugin.PngInfo()
    info.add_text("parameters", "a cat " * 500_000, zip=True)
    Image.new("RGB", (32, 32)).save(tmp_path / "a.png", pnginfo=info)
    assert read_settings(tmp_path / "a.png") is None


@pytest.mark.parametrize("name", ["a.eps", "a.tiff", "a.ico", "a.psd", "a.ppm", "a.svg", "a.pdf"])
def test_a_form_that_is_not_listed_is_not_handed_to_its_reader(name: str, tmp_path: Path) -> None:
    file = tmp_path / name
    file.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 32 32\n(%pipe%touch canary) (w) file\n")
    if name in ("a.tiff", "a.ico", "a.ppm"):
        Image.new("RGB", (32, 32)).save(file)
    sent = SimpleNamespace(path=file)
    with pytest.raises(gr.Error, match="none of PNG, JPEG, WEBP, BMP, GIF"):
        picture_editor(render=False).preprocess(
            SimpleNamespace(id=None, background=sent, layers=[], composite=None)
        )


def test_the_editor_keeps_what_is_transparent_and_makes_smaller_what_is_too_large(tmp_path: Path) -> None:
    half = tmp_path / "half.png"
    Image.new("RGBA", (MAX_SIDE_PIXELS + 100, 40), (255, 0, 0, 128)).save(half)
    sent = SimpleNamespace(path=half)
    editor = picture_editor(render=False)
    value = editor.preprocess(SimpleNamespace(id=None, background=sent, layers=[sent], composite=None))
    for picture in (value["background"], *value["layers"]):
        assert (picture.mode, picture.width) == ("RGBA", MAX_SIDE_PIXELS)
        assert picture.getpixel((5, 5)) == (255, 0, 0, 128)
    assert editor.preprocess(None) is None
    blobs = {"background": half.read_bytes(), "layers": [None], "composite": None}
    editor.blob_storage["sent"] = SimpleNamespace(**blobs)
    assert editor.preprocess(SimpleNamespace(id="sent"))["background"].width == MAX_SIDE_PIXELS
    assert editor.preprocess(SimpleNamespace(id="sent"))["background"] is None  # it is taken once


def test_the_editor_takes_few_layers(tmp_path: Path) -> None:
    sent = SimpleNamespace(path=tmp_path / "never-opened.png")
    with pytest.raises(gr.Error, match="at most"):
        picture_editor(render=False).preprocess(
            SimpleNamespace(id=None, background=None, layers=[sent] * (MAX_LAYERS + 1), composite=None)
        )


def test_a_file_for_a_handler_is_left_unopened(tmp_path: Path) -> None:
    component = picture_file(render=False)
    assert component.preprocess(None) is None
    assert component.preprocess(SimpleNamespace(path=str(tmp_path / "never-opened"))) == str(
        tmp_path / "never-opened"
    )


@pytest.mark.slow
def test_a_photo_of_a_phone_is_upright_and_no_larger_than_can_be_used(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    photo = Image.linear_gradient("L").resize((8160, 6120)).convert("RGB")
    photo.save(tmp_path / "photo.jpg", exif=exif)
    with Image.open(io.BytesIO(read_picture(tmp_path / "photo.jpg"))) as stored:
        assert stored.size == (3060, 4080)
