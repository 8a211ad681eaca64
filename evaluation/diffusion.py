"""`evaluate diffusion`: draws training captions and asks whether the pictures show what they say."""

import hashlib
import json
from argparse import Namespace
from pathlib import Path
from random import Random

import torch
from torch import Tensor
from tqdm import tqdm

from evaluation.retrieval import hits
from evaluation.starter_data import Thing, labels, read_things
from models.errors import DataError, RequestError
from models.features import CHECKPOINT, load_feature_network
from models.weights import load_weights, save_weights, sha256
from pipelines.engine import LocalEngine
from pipelines.request import GenerationRequest, GenerationResult
from training.data.images import open_picture, to_tensor
from training.data.pictures import chunks
from training.grid import save_grid
from training.run import runs_folder


def embed_files(things: list[Thing], resolution: int) -> Tensor:
    """Features (N, D) of real pictures, computed once per network, resolution and files as they stand.

    Raises: DataError naming a picture that is gone or cannot be read.
    """
    files = [thing.file.absolute() for thing in things]
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
def _embed(files: list[Path], resolution: int) -> Tensor:
    network, size, parts = load_feature_network(), (resolution, resolution), []
    for batch in tqdm(chunks(range(len(files)), 64), desc="real pictures", unit="batch", leave=False):
        pictures = []
        for file in (files[i] for i in batch):
            try:
                pictures.append(to_tensor(open_picture(file), size))
            except DataError as error:
                raise DataError(f"{file}: {error}; build the dataset anew") from error
        parts.append(network.embed(torch.stack(pictures)))
    return torch.cat(parts)


def main(args: Namespace) -> int:
    """Run the command; `args` has model, data, count, seed, steps, guidance_scale, grid and json.

    Held-out real pictures, judged by the same rule, are the ceiling that the share is compared to.
    """
    things = read_things(Path(args.data))
    if args.grid is not None and not args.grid.absolute().parent.is_dir():
        raise RequestError(f"{args.grid} cannot be written: its folder does not exist")
    network = load_feature_network()
    engine = LocalEngine(Path(args.model), args.device)
    train = [thing for thing in things if thing.split == "train"]
    asked = Random(args.seed).sample(train, min(args.count, len(train)))
    said = {name: getattr(args, name) for name in ("steps", "guidance_scale")}
    requests = [
        GenerationRequest.from_options(said | {"prompt": thing.caption, "seed": seed}, engine.model.defaults)
        for seed, thing in enumerate(asked)
    ]

    resolution = engine.model.defaults.width
    gallery, shown = embed_files(things, resolution), labels(things)
    held_out = [index for index, thing in enumerate(things) if thing.split == "held-out pair"]
    ceiling = hits(gallery[held_out], labels([things[i] for i in held_out]), gallery, shown)

    images = []
    for request in tqdm(requests, desc="drawing", unit="picture", leave=False):
        for event in engine.generate(request):
            if isinstance(event, GenerationResult):
                images += event.images
    with torch.inference_mode():
        drawn = torch.cat(
            [network.embed(to_tensor(image, (resolution, resolution)).unsqueeze(0)) for image in images]
        )
    found = hits(drawn, labels(asked), gallery, shown)
    share, best = float(found.float().mean()), float(ceiling.float().mean())
    result = {
        "captions": len(asked),
        "right_concept_in_5": round(share, 4),
        "held_out_real_in_5": round(best, 4),
        "share_of_real": round(share / best, 4),
    }
    if args.json:
        print(json.dumps(result))
    else:
        print(f"right concept among the five nearest real pictures: {share:.1%} of {len(asked)} captions")
        print(
            f"held-out real pictures by the same rule: {best:.1%}; the model reaches {share / best:.1%} of it"
        )
    if args.grid is not None:
        save_grid(images[:64], args.grid, columns=8)
    return 0
