"""Every random draw of a training as a function of seed, step and place in the global batch.

A resumed run repeats its draws without a generator's state on disk, and the rows of a batch are the same
however many processes and micro-batches share it.
"""

import hashlib
from collections.abc import Sequence

import torch
from torch import Tensor


def seed_for(seed: int, step: int, purpose: str) -> int:
    """A seed of 63 bits for one purpose in one step; purposes never share a stream of numbers."""
    digest = hashlib.blake2b(f"{seed} {step} {purpose}".encode(), digest_size=8).digest()
    return int.from_bytes(digest) >> 1


def normal(shape: Sequence[int], seed: int, step: int, positions: Sequence[int], purpose: str) -> Tensor:
    """Standard normal numbers, (len(positions), *shape): row by row those of a position in the batch."""
    generator, rows = torch.Generator(), torch.empty(len(positions), *shape)
    for row, position in zip(rows, positions, strict=True):
        generator.manual_seed(seed_for(seed, step, f"{purpose} {position}"))
        torch.randn(tuple(shape), generator=generator, out=row)
    return rows


def uniform(seed: int, step: int, positions: Sequence[int], purpose: str) -> Tensor:
    """Numbers in [0, 1), (len(positions),), one for each position in the batch."""
    seeds = [seed_for(seed, step, f"{purpose} {position}") for position in positions]
    # 24 bits are what float32 holds exactly below 1.
    return torch.tensor([number % 2**24 / 2**24 for number in seeds])
