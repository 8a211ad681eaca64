"""A folder of captioned pictures: what is in it, what is skipped and why, and one picture as a tensor."""

import json
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from models.errors import DataError
from training.seeds import seed_for

FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF")
SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif"})
HELD_OUT_SPLITS = ("held-out pair", "validation", "test")
MAX_HELD_OUT = 64
MAX_PIXELS = 64_000_000  # a picture that claims more is refused before it is decoded


@dataclass(frozen=True, slots=True)
class Entry:
    """One usable picture: its file, its captions, the canonical one first, and its split, "" for any."""

    file: Path
    captions: tuple[str, ...]
    split: str = ""


@dataclass(frozen=True, slots=True)
class Skipped:
    """A file that will not be used, and why."""

    file: Path
    reason: str


def read_folder(folder: Path) -> tuple[list[Entry], list[Skipped]]:
    """Everything in a folder, in a fixed order.

    Captions come from `metadata.jsonl` (`file_name`, `text` or `captions`) where there is one, else
    from a .txt file beside each picture (one caption a line), else from the file's name.

    Raises: DataError when the folder does not exist.
    """
    if not folder.is_dir():
        raise DataError(
            f"{folder} is not a folder; name a folder of pictures, or run `data starter --output {folder}`"
        )
    usable: list[Entry] = []
    skipped: list[Skipped] = []
    for found in _listed(folder):
        if isinstance(found, Entry):
            reason = why_unusable(found.file)
            if reason is None:
                usable.append(found)
                continue
            found = Skipped(found.file, reason)
        skipped.append(found)
    return usable, skipped


def why_unusable(file: Path) -> str | None:
    """Why a file cannot be a training picture, or None; reads its header and decodes it once."""
    try:
        open_picture(file)
    except DataError as error:
        return str(error)
    return None


def open_picture(file: Path) -> Image.Image:
    """A picture as RGB, upright, transparency laid on white.

    Raises: DataError saying what is wrong with the file.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(file, formats=FORMATS) as image:
                if image.width * image.height > MAX_PIXELS:
                    raise DataError(
                        f"{image.width}x{image.height} pixels are too many (at most {MAX_PIXELS:,})"
                    )
                if min(image.size) < 16:
                    raise DataError(f"{image.width}x{image.height} pixels are too few (at least 16x16)")
                upright = ImageOps.exif_transpose(image)
                rgba = upright.convert("RGBA")
    except DataError:
        raise
    # Pillow lets these escape from broken files; SyntaxError comes from its PNG and BMP readers.
    except (OSError, ValueError, SyntaxError, EOFError, Image.DecompressionBombError, Warning) as error:
        raise DataError(f"not a readable picture ({error or type(error).__name__})") from error
    white = Image.new("RGBA", rgba.size, (255, 255, 255, 255))
    return Image.alpha_composite(white, rgba).convert("RGB")


def to_tensor(image: Image.Image, resolution: int) -> Tensor:
    """A picture centre-cropped square and resized by area to (3, resolution, resolution) in [-1, 1]."""
    if image.size != (resolution, resolution):
        shrinking = min(image.size) >= resolution
        image = ImageOps.fit(
            image, (resolution, resolution), Image.Resampling.BOX if shrinking else Image.Resampling.BICUBIC
        )
    pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1)  # (3, H, W) uint8
    return pixels.float() / 127.5 - 1


class Pictures:
    """Usable pictures as tensors of one size."""

    def __init__(self, entries: list[Entry], resolution: int) -> None:
        self.entries, self.resolution = entries, resolution

    def __len__(self) -> int:
        return len(self.entries)

    def __getitem__(self, index: int) -> Tensor:
        """Picture `index` as (3, resolution, resolution) in [-1, 1]."""
        return to_tensor(open_picture(self.entries[index].file), self.resolution)

    def batch(self, indices: list[int]) -> Tensor:
        """Pictures as (B, 3, resolution, resolution) in [-1, 1]."""
        return torch.stack([self[index] for index in indices])


def load_pictures(folder: Path, resolution: int, split: str) -> tuple[Pictures, Pictures, list[Skipped]]:
    """Pictures to train on, held-out ones, and the files that are skipped.

    Where the metadata names splits, `split` is trained on and the first of HELD_OUT_SPLITS that occurs is
    held out. Else, or where none occurs, a tenth is taken out of training, evenly spread, 64 at most.

    Raises: DataError when nothing is left to train on.
    """
    usable, skipped = read_folder(folder)
    train = [entry for entry in usable if entry.split in ("", split)]
    held_out: list[Entry] = []
    for name in HELD_OUT_SPLITS:
        held_out = held_out or [entry for entry in usable if entry.split == name]
    if not held_out and len(train) > 1:
        count = max(1, min(MAX_HELD_OUT, len(train) // 10))
        held_out = [train[number * len(train) // count] for number in range(count)]
        out = set(held_out)
        train = [entry for entry in train if entry not in out]
    if not train:
        named = sorted({entry.split for entry in usable if entry.split})
        reason = f"set data.split to one of {', '.join(named)}" if named else f"see `data check {folder}`"
        raise DataError(f"{folder} has no usable picture to train on: {reason}")
    return Pictures(train, resolution), Pictures(held_out or train, resolution), skipped


def epoch_order(length: int, seed: int, epoch: int) -> Tensor:
    """The order of epoch `epoch`, a function of the seed alone."""
    generator = torch.Generator().manual_seed(seed_for(seed, epoch, "order"))
    return torch.randperm(length, generator=generator)


def chunks(indices: range, size: int) -> list[list[int]]:
    """Consecutive lists of up to `size` indices."""
    return [list(indices[first : first + size]) for first in range(0, len(indices), size)]


def batch_indices(length: int, batch_size: int, seed: int, step: int) -> list[int]:
    """Which samples step `step` (from 0) sees: a function of seed and step, so a resumed run agrees."""
    first = step * batch_size
    order: dict[int, Tensor] = {}
    picked = []
    for position in range(first, first + batch_size):
        epoch, place = divmod(position, length)
        if epoch not in order:
            order[epoch] = epoch_order(length, seed, epoch)
        picked.append(int(order[epoch][place]))
    return picked


def _listed(folder: Path) -> Iterator[Entry | Skipped]:
    metadata = folder / "metadata.jsonl"
    if metadata.is_file():
        yield from _from_metadata(folder, metadata)
        return
    for file in sorted(path for path in folder.rglob("*") if path.is_file()):
        if file.suffix.lower() not in SUFFIXES:
            if file.suffix.lower() != ".txt":
                yield Skipped(file, f"not a picture format this reads ({', '.join(sorted(SUFFIXES))})")
            continue
        beside = file.with_suffix(".txt")
        text = (
            beside.read_text(errors="replace")
            if beside.is_file()
            else file.stem.replace("_", " ").replace("-", " ")
        )
        lines = tuple(line.strip() for line in text.splitlines() if line.strip())
        yield Entry(file, lines or ("",))


def _from_metadata(folder: Path, metadata: Path) -> Iterator[Entry | Skipped]:
    root = folder.resolve()
    for number, line in enumerate(metadata.read_text(encoding="utf-8", errors="replace").splitlines(), 1):
        try:
            row = json.loads(line)
            file = folder / row["file_name"]
            said = row.get("captions") or row.get("text", "")
            captions = tuple(map(str, said)) if isinstance(said, list) else (str(said),)
        except (ValueError, KeyError, TypeError, AttributeError):
            yield Skipped(metadata, f"line {number} is not a JSON object with a file_name")
            continue
        if not file.resolve().is_relative_to(root):
            yield Skipped(file, "lies outside the folder")
        elif not file.is_file():
            yield Skipped(file, f"named in line {number} of metadata.jsonl, but missing")
        else:
            yield Entry(file, captions, str(row.get("split", "")))
