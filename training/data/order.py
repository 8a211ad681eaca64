"""Which pictures every batch sees: a function of the seed and the step, so that a resumed run agrees."""

from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray

from models.errors import ConfigError
from training.rows import on_disk
from training.seeds import seed_for

WIDEST = 2.0  # the aspect ratio of the outermost buckets


def bucket_shapes(resolution: int, count: int, multiple: int) -> list[tuple[int, int]]:
    """`count` shapes (width, height) of about resolution^2 pixels, tall ones first.

    Their aspect ratios are evenly spaced on a logarithmic scale from 1:2 to 2:1, the middle one is square,
    and the sides of the others are rounded to multiples of `multiple`.

    Raises: ConfigError where there are not so many different shapes.
    """
    if count % 2 == 0:
        raise ConfigError(f"data.buckets is {count}; it must be odd, so that one of them is square")
    ratios = WIDEST ** np.linspace(-1, 1, count) if count > 1 else np.ones(1)
    sides = [round(resolution * ratio**0.5 / multiple) * multiple for ratio in ratios]
    shapes = list(zip(sides, reversed(sides), strict=True))
    shapes[count // 2] = (resolution, resolution)
    if len(set(shapes)) < count or min(min(shape) for shape in shapes) == 0:
        raise ConfigError(
            f"{resolution}x{resolution} pixels with sides that are multiples of {multiple} give less than "
            f"{count} shapes; lower data.buckets or data.bucket_multiple"
        )
    return shapes


def assign_buckets(aspect_ratios: NDArray[np.float32], shapes: list[tuple[int, int]]) -> NDArray[np.int8]:
    """For each picture the shape whose aspect ratio is nearest, by number: the least of it is cropped."""
    of_shapes = np.array([width / height for width, height in shapes])
    borders = np.sqrt(of_shapes[:-1] * of_shapes[1:])  # where both neighbours crop alike
    return np.searchsorted(borders, aspect_ratios).astype(np.int8)


def epoch_order(length: int, seed: int, epoch: int) -> NDArray[np.int32]:
    """The order of epoch `epoch`, a function of the seed alone."""
    generator = torch.Generator().manual_seed(seed_for(seed, epoch, "order"))
    order: NDArray[np.int32] = torch.randperm(length, generator=generator, dtype=torch.int32).numpy()
    return order


class Order:
    """Batches of one bucket each, dealt like cards.

    Epoch after epoch, the pictures are gone through in `epoch_order` and laid into their buckets; a bucket
    that holds a whole batch gives it away. So every picture is dealt once an epoch, and what a bucket keeps
    at the end of an epoch is the beginning of its next batch. Any step is found without those before it.
    """

    def __init__(self, buckets: NDArray[np.int8], batch_size: int, seed: int) -> None:
        self.buckets, self.batch_size, self.seed = buckets, batch_size, seed
        self.counts = np.bincount(buckets).astype(np.int64)  # pictures of each bucket
        self.deal = lru_cache(maxsize=2)(self._deal)

    def batch(self, step: int) -> list[int]:
        """The pictures of step `step` (from 0)."""
        epoch = step * self.batch_size // len(self.buckets)
        while self.batches_before(epoch + 1) <= step:
            epoch += 1
        _, given = self.deal(epoch)
        bucket, first = given[step - self.batches_before(epoch)]
        count = self.counts[bucket]
        below = self.counts[:bucket].sum()
        places = np.arange(first, first + self.batch_size)
        parts = [
            self.deal(int(one))[0][below + places[places // count == one] % count]
            for one in np.unique(places // count)
        ]
        return [int(picture) for picture in np.concatenate(parts)]

    def batches_before(self, epoch: int) -> int:
        """How many batches the epochs before `epoch` give."""
        return int((epoch * self.counts // self.batch_size).sum())

    def _deal(self, epoch: int) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
        """One epoch's pictures by bucket, each bucket's as dealt, and its batches: (bucket, first place).

        A place counts the pictures of its bucket through all epochs.
        """
        order = epoch_order(len(self.buckets), self.seed, epoch)
        by_bucket = np.argsort(self.buckets[order], kind="stable")
        given = []  # (when, bucket, first place)
        for bucket, turns in enumerate(np.split(by_bucket, np.cumsum(self.counts)[:-1])):
            dealt = epoch * self.counts[bucket]
            full = np.arange(self.batch_size - 1 - dealt % self.batch_size, len(turns), self.batch_size)
            firsts = dealt + full + 1 - self.batch_size
            given.append(np.stack([turns[full], np.full(len(full), bucket), firsts], axis=1))
        batches = np.concatenate(given)
        return on_disk(order[by_bucket]), batches[np.argsort(batches[:, 0]), 1:]
