"""What the frozen autoencoder and text encoder say of a dataset: computed once and kept, or at every step.

A cache is a folder named by a hash of all that decides its content, so every later run finds it. It is
written in parts: a job that was killed goes on where it stopped, and of several processes one writes.
"""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from filelock import FileLock
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from models.autoencoder import Autoencoder
from models.text_encoder import TextEncoder, TextStates, text_folders
from models.weights import sha256
from pipelines.device import choose_device
from training.data.images import RULES
from training.data.index import Index
from training.data.pictures import Pictures
from training.disk import require_space
from training.rows import Rows, on_disk

ENCODED_PICTURES = 64  # at a time
PART_CHUNKS = 16  # of so many pictures, until they count as kept
ENCODED_CAPTIONS = 128
PART_CAPTIONS = 2048
VERSION = "1"  # of what is computed; another one computes it anew
WITHOUT = ", move the runs (LATENT_STUDIO_RUNS), or set data.cache=false"


class Latents(Protocol):
    """Latents of a training's pictures."""

    def read(self, indices: Sequence[int], flipped: Tensor) -> tuple[Tensor, list[int]]:
        """Normalised latents (B, C, h, w) of pictures of one bucket, and which pictures they are.

        `flipped` (B,) bool asks for the mirrored picture. The mode of the posterior and not a sample: the
        autoencoder's own noise would be one more thing to learn.
        """


class Texts(Protocol):
    """Text states of the captions of an index."""

    def states(self, numbers: Sequence[int]) -> TextStates:
        """States of captions by number, padded to the longest, float32 on the CPU."""


class LiveLatents:
    """Pictures encoded at every step."""

    def __init__(self, autoencoder: Autoencoder, pictures: Pictures) -> None:
        self.autoencoder, self.pictures = autoencoder.to(choose_device()), pictures

    @torch.no_grad()
    def read(self, indices: Sequence[int], flipped: Tensor) -> tuple[Tensor, list[int]]:
        """Encode pictures; see `Latents`."""
        pixels, shown = self.pictures.read(indices)  # (B, 3, H, W)
        pixels = torch.where(flipped[:, None, None, None], pixels.flip(3), pixels)
        device = next(self.autoencoder.parameters()).device
        return self.autoencoder.encode(pixels.to(device)).cpu(), shown


class LiveTexts:
    """Captions encoded at every step."""

    def __init__(self, encoder: TextEncoder, index: Index) -> None:
        self.encoder, self.index = encoder.to(choose_device()), index

    def states(self, numbers: Sequence[int]) -> TextStates:
        """Encode captions; see `Texts`."""
        return self.encoder.encode([self.index.caption(number) for number in numbers]).to("cpu")


class CachedLatents:
    """Latents read from memory-mapped files, one for each bucket, in half precision."""

    def __init__(self, rows: Rows, pictures: Pictures) -> None:
        self.arrays = [rows.array(str(bucket)) for bucket in range(len(pictures.shapes))]
        self.buckets, self.substitutes = pictures.buckets, rows.notes
        places = np.empty(len(pictures), np.int32)  # of each picture in the array of its bucket
        for bucket, array in enumerate(self.arrays):
            places[pictures.buckets == bucket] = np.arange(len(array))
        self.places = on_disk(places)

    def read(self, indices: Sequence[int], flipped: Tensor) -> tuple[Tensor, list[int]]:
        """Look latents up; see `Latents`."""
        array = self.arrays[self.buckets[indices[0]]]  # (N, 1 or 2, C, h, w)
        latents = array[self.places[list(indices)], flipped.int().numpy()]  # (B, C, h, w)
        return torch.from_numpy(latents).float(), [self.substitutes.get(str(i), i) for i in indices]


class CachedTexts:
    """Text states read from memory-mapped files, without padding, in half precision."""

    def __init__(self, rows: Rows) -> None:
        self.tokens, self.pooled = rows.array("tokens"), rows.array("pooled")
        self.ends = rows.array("ends")  # caption i has the tokens ends[i - 1] to ends[i]

    def states(self, numbers: Sequence[int]) -> TextStates:
        """Look states up; see `Texts`."""
        starts = [int(self.ends[i - 1]) if i else 0 for i in numbers]
        parts = [
            torch.from_numpy(self.tokens[start : int(self.ends[i])].astype(np.float32))  # (T_i, D)
            for i, start in zip(numbers, starts, strict=True)
        ]
        hidden = torch.nn.utils.rnn.pad_sequence(parts, batch_first=True)  # (B, T, D)
        lengths = torch.tensor([len(part) for part in parts])
        mask = torch.arange(hidden.shape[1]) < lengths.unsqueeze(1)  # (B, T)
        return TextStates(hidden, mask, torch.from_numpy(self.pooled[list(numbers)].astype(np.float32)))


def cache_latents(
    autoencoder: Autoencoder, source: Path, pictures: Pictures, flips: bool, folder: Path
) -> CachedLatents:
    """The latents of all pictures, mirrored ones too if `flips`; `source` is the autoencoder's own folder.

    Raises: StudioError when the disk is too full.
    """
    variants = 2 if flips else 1
    factor, channels = autoencoder.downsampling_factor, autoencoder.latent_channels
    kinds = {
        str(bucket): ("<f2", (variants, channels, height // factor, width // factor))
        for bucket, (width, height) in enumerate(pictures.shapes)
    }
    target = folder / f"latents-{_hash(VERSION, RULES, digest_of(source), pictures.digest, str(kinds))}"
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(target.with_suffix(".lock")):
        rows = Rows(target, kinds)
        if sum(rows.counts.values()) < len(pictures):
            left = {
                name: np.flatnonzero(pictures.buckets == int(name))[done:]
                for name, done in rows.counts.items()
            }
            needed_bytes = sum(len(indices) * rows.row_bytes(name) for name, indices in left.items())
            require_space(folder, needed_bytes, f"the latents of {len(pictures)} pictures take", WITHOUT)
            _encode_pictures(autoencoder.to(choose_device()), pictures, left, flips, rows)
    return CachedLatents(rows, pictures)


@torch.no_grad()
def _encode_pictures(
    autoencoder: Autoencoder, pictures: Pictures, left: dict[str, NDArray[np.int64]], flips: bool, rows: Rows
) -> None:
    device, done = next(autoencoder.parameters()).device, sum(rows.counts.values())
    with tqdm(desc="latents", unit="picture", total=len(pictures), initial=done) as bar:
        for name, indices in left.items():
            for first in range(0, len(indices), ENCODED_PICTURES):
                chunk = indices[first : first + ENCODED_PICTURES].tolist()
                pixels, shown = pictures.read(chunk)
                pixels = pixels.to(device)  # (B, 3, H, W)
                variants = [pixels, pixels.flip(3)] if flips else [pixels]
                latents = torch.stack([autoencoder.encode(one) for one in variants], 1)  # (B, V, C, h, w)
                rows.append(name, latents.half().cpu().numpy())
                rows.notes |= {str(i): j for i, j in zip(chunk, shown, strict=True) if i != j}
                if (first // ENCODED_PICTURES + 1) % PART_CHUNKS == 0:
                    rows.commit()
                bar.update(len(chunk))
    rows.commit()


def cache_texts(encoder: TextEncoder, source: Path, index: Index, folder: Path) -> CachedTexts:
    """The states of all captions of an index; `source` is the folder that the encoder comes from.

    Raises: StudioError when the disk is too full.
    """
    parts = [digest_of(part) for part in text_folders(source)]
    target = folder / f"text-{_hash(VERSION, *parts, index.facts['captions'])}"
    folder.mkdir(parents=True, exist_ok=True)
    kinds = {"tokens": ("<f2", (encoder.dim,)), "pooled": ("<f2", (encoder.dim,)), "ends": ("<i8", ())}
    with FileLock(target.with_suffix(".lock")):
        rows, count = Rows(target, kinds), index.caption_count
        if rows.counts["ends"] < count:
            _encode_captions(encoder.to(choose_device()), index, rows)
    return CachedTexts(rows)


def _encode_captions(encoder: TextEncoder, index: Index, rows: Rows) -> None:
    done, count = rows.counts["ends"], index.caption_count
    with tqdm(desc="captions", unit="caption", total=count, initial=done) as bar:
        for first in range(done, count, PART_CAPTIONS):
            captions = [index.caption(i) for i in range(first, min(first + PART_CAPTIONS, count))]
            order = sorted(range(len(captions)), key=lambda i: len(captions[i]))  # like lengths together
            tokens = [torch.empty(0)] * len(captions)
            pooled = torch.empty(len(captions), encoder.dim, dtype=torch.float16)
            for start in range(0, len(order), ENCODED_CAPTIONS):
                chunk = order[start : start + ENCODED_CAPTIONS]
                states = encoder.encode([captions[i] for i in chunk])
                for row, i in enumerate(chunk):
                    tokens[i] = states.hidden[row, states.mask[row]].half().cpu()
                pooled[chunk] = states.pooled.half().cpu()
                bar.update(len(chunk))
            if first == done:
                of_these = sum(len(part) for part in tokens) * rows.row_bytes("tokens")
                needed_bytes = (of_these + pooled.nbytes) * (count - done) // len(captions)
                what = f"the states of {count} captions take, by estimate,"
                require_space(rows.folder.parent, needed_bytes, what, WITHOUT)
            ends = torch.tensor([len(part) for part in tokens]).cumsum(0) + rows.counts["tokens"]
            rows.append("tokens", torch.cat(tokens).numpy())
            rows.append("pooled", pooled.numpy())
            rows.append("ends", ends.numpy())
            rows.commit()


def digest_of(folder: Path) -> str:
    """A hash of all files of a part of a model: weights, config, vocabulary."""
    return _hash(*(f"{file.name} {sha256(file)}" for file in sorted(folder.iterdir()) if file.is_file()))


def _hash(*parts: str) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]
