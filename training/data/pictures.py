"""The pictures of a training as tensors, with their captions and labels; those held out; those skipped."""

import hashlib
import sys
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import ImageColor
from torch import Tensor
from tqdm import tqdm

from models.errors import ConfigError, DataError
from training.config import Data
from training.data.entries import Entry, Skipped
from training.data.images import open_entry, to_tensor
from training.data.index import Index, open_index
from training.data.order import assign_buckets, bucket_shapes
from training.rows import on_disk
from training.runs import runs_folder
from training.seeds import seed_for

HELD_OUT_SPLITS = ("held-out pair", "validation", "test")
MAX_HELD_OUT = 64
MAX_SUBSTITUTES = 16


class Pictures:
    """Pictures of an index by number (`index` and `numbers`), each in the shape of its bucket.

    `shapes` are (width, height) in pixels, `buckets` gives the one of each picture.
    """

    def __init__(
        self,
        index: Index,
        numbers: NDArray[np.int32],
        shapes: Sequence[tuple[int, int]],
        buckets: NDArray[np.int8],
        background: tuple[int, int, int],
    ) -> None:
        self.index, self.shapes, self.background = index, shapes, background
        self.numbers, self.buckets = on_disk(numbers), on_disk(buckets)
        self.unreadable: dict[int, str] = {}

    def __len__(self) -> int:
        return len(self.numbers)

    @property
    def digest(self) -> str:
        """A hash of everything that decides the tensors."""
        digest = hashlib.sha256(self.numbers.tobytes() + self.buckets.tobytes())
        digest.update(f"{self.index.facts['pictures']} {self.shapes} {self.background}".encode())
        return digest.hexdigest()

    def entry(self, i: int) -> Entry:
        """Where picture `i` lies and what is said of it."""
        return self.index.entry(self.numbers[i])

    def caption_numbers(self, i: int) -> list[int]:
        """The captions of picture `i`, the canonical one first, by their numbers in the index."""
        return self.index.caption_numbers(self.numbers[i])

    def label(self, i: int) -> str:
        """The class of picture `i`: its metadata's `label`, else the folder it lies in, else ""."""
        return self.entry(i).label

    def __getitem__(self, i: int) -> Tensor:
        """Picture `i` as (3, H, W) in [-1, 1]; DataError where it cannot be read any more."""
        return to_tensor(open_entry(self.entry(i), self.background), self.shapes[self.buckets[i]])

    def read(self, indices: Sequence[int]) -> tuple[Tensor, list[int]]:
        """Pictures of one bucket as (B, 3, H, W) in [-1, 1], and which they are.

        One that cannot be read any more is named on standard error, once, and gives its place to another
        of its bucket, always the same.
        """
        rows = [self._readable(i) for i in indices]
        return torch.stack([pixels for pixels, _ in rows]), [i for _, i in rows]

    def batch(self, indices: Sequence[int]) -> Tensor:
        """Pictures of one bucket as (B, 3, H, W) in [-1, 1], as `read` gives them."""
        return self.read(indices)[0]

    def _readable(self, wanted: int) -> tuple[Tensor, int]:
        peers = np.array([wanted])
        for attempt in range(1 + MAX_SUBSTITUTES):
            i = int(peers[seed_for(wanted, attempt, "substitute") % len(peers)])
            if i not in self.unreadable:
                try:
                    return self[i], i
                except DataError as error:
                    self.unreadable[i] = str(error)
                    tqdm.write(f"skipped {self.entry(i).name}: {error}", file=sys.stderr)
            if attempt == 0:
                peers = np.flatnonzero(self.buckets == self.buckets[wanted])
        raise DataError(
            f"{self.entry(wanted).name} and {MAX_SUBSTITUTES} pictures in its place cannot be read, the last "
            f"because it is {self.unreadable[i]}; see whether the dataset is still there"
        )

    def square(self) -> "Pictures":
        """The same pictures in the square shape."""
        middle = [self.shapes[len(self.shapes) // 2]]
        return Pictures(self.index, self.numbers, middle, np.zeros(len(self), np.int8), self.background)

    def spread(self, count: int) -> "Pictures":
        """At most `count` of the pictures, evenly spread."""
        step = slice(None, None, -(-len(self) // count))
        return Pictures(self.index, self.numbers[step], self.shapes, self.buckets[step], self.background)


def load_pictures(data: Data) -> tuple[Pictures, Pictures, int]:
    """Pictures to train on, held-out ones in the square shape, and how many files are skipped.

    Where the metadata names splits, `data.split` is trained on and the first of HELD_OUT_SPLITS that occurs
    is held out. Else, or where none occurs, a tenth is taken out of training, evenly spread, 64 at most.
    A file that is skipped is named on standard error when it is first met.

    Raises: DataError when nothing is left to train on; ConfigError for buckets or a colour that cannot be.
    """
    shapes = bucket_shapes(data.resolution, data.buckets, data.bucket_multiple)
    try:
        red, green, blue = ImageColor.getrgb(data.background)[:3]
    except ValueError as error:
        raise ConfigError(
            f"data.background is {data.background!r}; give a colour such as white or #808080"
        ) from error

    def tell(skipped: Skipped) -> None:
        tqdm.write(f"skipped {skipped.name}: {skipped.reason}", file=sys.stderr)

    index = open_index(data.path, runs_folder() / "cache", tell)
    train = index.pictures(["", data.split])
    held_out = np.empty(0, np.int32)
    for name in HELD_OUT_SPLITS:
        if not len(held_out):
            held_out = index.pictures([name])
    if not len(held_out) and len(train) > 1:
        count = max(1, min(MAX_HELD_OUT, len(train) // 10))
        places = np.arange(count) * len(train) // count
        held_out, train = train[places], np.delete(train, places)
    if not len(train):
        raise DataError(
            f"{data.path} has no usable picture to train on: set data.split to one of "
            f"{', '.join(sorted(filter(None, index.splits())))}"
        )
    if not len(held_out):
        held_out = train
    buckets = np.zeros(len(train), np.int8)
    if len(shapes) > 1:
        buckets = assign_buckets(index.aspect_ratios()[train], shapes)
    pictures = Pictures(index, train, shapes, buckets, (red, green, blue))
    return (
        pictures,
        Pictures(index, held_out, shapes, buckets, (red, green, blue)).square(),
        index.skipped_count,
    )


def chunks(indices: range, size: int) -> list[list[int]]:
    """Consecutive lists of up to `size` indices."""
    return [list(indices[first : first + size]) for first in range(0, len(indices), size)]
