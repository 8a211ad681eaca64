"""Features of picture files, computed once and kept."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

from models.errors import DataError
from models.features import CHECKPOINT, load_feature_network
from models.weights import load_weights, save_weights, sha256
from training.data.images import open_picture, to_tensor
from training.data.pictures import chunks
from training.run import runs_folder


def embed_files(files: Sequence[Path], resolution: int) -> Tensor:
    """Features (N, D) of pictures, computed once per network, resolution and files as they stand.

    Raises: DataError naming a picture that is gone or cannot be read.
    """
    files = [file.absolute() for file in files]
    try:
        stats = [file.stat() for file in files]
    except OSError as error:
        raise DataError(
            f"{error.filename} cannot be read ({error.strerror}); build the dataset anew"
        ) from error
    key = [sha256(CHECKPOINT / name) for name in ("config.json", "model.safetensors")]
    key += [str(resolution)]
    key += [f"{file} {stat.st_size} {stat.st_mtime_ns}" for file, stat in zip(files, stats, strict=True)]

    name = hashlib.sha256("\n".join(key).encode()).hexdigest()[:16]
    cache = runs_folder() / "cache" / f"features-{name}.safetensors"
    if not cache.exists():
        save_weights(cache, {"features": _embed(files, resolution)}, None)
    return load_weights(cache)["features"]


@torch.inference_mode()
def _embed(files: Sequence[Path], resolution: int) -> Tensor:
    network, size, parts = load_feature_network(), (resolution, resolution), []
    for batch in tqdm(chunks(range(len(files)), 64), desc="features", unit="batch", leave=False):
        pictures = []
        for file in (files[i] for i in batch):
            try:
                pictures.append(to_tensor(open_picture(file), size))
            except DataError as error:
                raise DataError(f"{file}: {error}; build the dataset anew") from error
        parts.append(network.embed(torch.stack(pictures)))
    return torch.cat(parts)
