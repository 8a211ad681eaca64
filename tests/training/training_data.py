"""Datasets for tests, written with Pillow and the webdataset package itself."""

import io
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import webdataset
from PIL import Image

from training.config import Data
from training.data.entries import Entry, Skipped
from training.data.index import Index, open_index
from training.data.sources import scan


def drawn(size: tuple[int, int], colour: Any, left: Any, mode: str = "RGB") -> Image.Image:
    """A picture of one colour, its left half of another where that is given."""
    image = Image.new(mode, size, colour)
    if left is not None:
        image.paste(left, (0, 0, size[0] // 2, size[1]))
    return image


def picture(
    path: Path, size: tuple[int, int] = (40, 40), colour: Any = "red", left: Any = None, mode: str = "RGB"
) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    drawn(size, colour, left, mode).save(path)
    return path


def png(size: tuple[int, int] = (40, 40), colour: Any = "red", left: Any = None) -> bytes:
    file = io.BytesIO()
    drawn(size, colour, left).save(file, "PNG")
    return file.getvalue()


def metadata(folder: Path, *rows: Mapping[str, Any]) -> None:
    (folder / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)))


def shard(path: Path, samples: Iterable[Mapping[str, Any]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with webdataset.TarWriter(str(path), mtime=0) as tar:
        for sample in samples:
            tar.write(sample)
    return path


def found(path: Path | str) -> tuple[list[Entry], list[Skipped]]:
    everything = list(scan(str(path)))
    entries = [one for one in everything if isinstance(one, Entry)]
    return entries, [one for one in everything if isinstance(one, Skipped)]


def index_of(path: Path | str, cache: Path) -> tuple[Index, list[Skipped]]:
    told: list[Skipped] = []
    return open_index(str(path), cache, told.append), told


def data(path: Path | str, resolution: int = 32, **keys: Any) -> Data:
    return Data(path=str(path), resolution=resolution, **keys)
