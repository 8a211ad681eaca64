"""Features of picture files, computed once and kept."""

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

from evaluation.networks import Network, shipped_network
from models.errors import DataError
from models.weights import load_weights
from models.writing import save_weights
from pipelines.pictures import open_picture
from training.data.images import to_tensor
from training.data.pictures import Pictures, chunks
from training.runs import runs_folder

BATCH = 4  # in a CPU's cache: with 64 a picture takes twice as long


def embed_files(files: Sequence[Path], resolution: int, network: Network | None = None) -> Tensor:
    """Features (N, D) of pictures, computed once per network, resolution and files as they stand.

    The network is the shipped one where none is given.

    Raises: DataError naming a picture that is gone or cannot be read.
    """
    network = network or shipped_network()
    files = [file.absolute() for file in files]
    try:
        stats = [file.stat() for file in files]
    except OSError as error:
        raise DataError(
            f"{error.filename} cannot be read ({error.strerror}); build the dataset anew"
        ) from error
    key = [f"{file} {stat.st_size} {stat.st_mtime_ns}" for file, stat in zip(files, stats, strict=True)]

    def read(batch: list[int]) -> Tensor:
        pixels = []
        for file in (files[i] for i in batch):
            try:
                pixels.append(to_tensor(open_picture(file), (resolution, resolution)))
            except DataError as error:
                raise DataError(f"{file}: {error}; build the dataset anew") from error
        return torch.stack(pixels)  # (B, 3, H, W)

    return _embed(read, len(files), [str(resolution), *key], network)


def embed_pictures(pictures: Pictures) -> Tensor:
    """Features (N, D) of a training's pictures, computed once per network and pictures."""
    return _embed(pictures.batch, len(pictures), [pictures.digest], shipped_network())


@torch.inference_mode()
def _embed(read: Callable[[list[int]], Tensor], count: int, key: list[str], network: Network) -> Tensor:
    """Features of pictures 0 to `count`, kept under `key`."""
    name = hashlib.sha256("\n".join([network.digest, *key]).encode()).hexdigest()[:16]
    cache = runs_folder() / "cache" / f"features-{name}.safetensors"
    if not cache.exists():
        batches = tqdm(chunks(range(count), BATCH), desc="features", unit="batch", leave=False)
        features = torch.cat([network.embedder.embed(read(batch)) for batch in batches])
        save_weights(cache, {"features": features}, None)
    return load_weights(cache)["features"]
