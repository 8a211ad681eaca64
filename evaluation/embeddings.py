"""Features of picture files, computed once and kept."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

from evaluation.networks import Network, shipped_network
from models.errors import DataError
from models.weights import load_weights, save_weights
from training.data.images import open_picture, to_tensor
from training.data.pictures import chunks
from training.run import runs_folder


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
    key = [network.digest, str(resolution)]
    key += [f"{file} {stat.st_size} {stat.st_mtime_ns}" for file, stat in zip(files, stats, strict=True)]

    name = hashlib.sha256("\n".join(key).encode()).hexdigest()[:16]
    cache = runs_folder() / "cache" / f"features-{name}.safetensors"
    if not cache.exists():
        save_weights(cache, {"features": _embed(files, resolution, network)}, None)
    return load_weights(cache)["features"]


@torch.inference_mode()
def _embed(files: Sequence[Path], resolution: int, network: Network) -> Tensor:
    size, parts = (resolution, resolution), []
    for batch in tqdm(chunks(range(len(files)), 64), desc="features", unit="batch", leave=False):
        pictures = []
        for file in (files[i] for i in batch):
            try:
                pictures.append(to_tensor(open_picture(file), size))
            except DataError as error:
                raise DataError(f"{file}: {error}; build the dataset anew") from error
        parts.append(network.embedder.embed(torch.stack(pictures)))
    return torch.cat(parts)
