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


def picture(path: Path, size: tuple[int, int] = (40, 40), colour: Any = "red", **options: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(options.pop("mode", "RGB"), size, colour).save(path, **options)
    return path


def png(size: tuple[int, int] = (40, 40), colour: Any = "red", left: Any = None) -> bytes:
    """A picture of one colour, its left half of another where that is given."""
    file = io.BytesIO()
    image = Image.new("RGB", size, colour)
    if left is not None:
        image.paste(left, (0, 0, size[0] // 2, size[1]))
    image.save(file, "PNG")
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
