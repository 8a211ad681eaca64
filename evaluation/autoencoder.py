"""`evaluate autoencoder`: how much of a held-out picture survives the trip through the latent."""

import json
from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from models.autoencoder import Autoencoder
from models.folder import load_autoencoder
from pipelines.engine import choose_device
from training.config import Data
from training.data.pictures import Pictures, load_pictures
from training.measures import psnr

MAX_PICTURES = 512


def bounding_box(picture: Tensor, tolerance: float = 0.02) -> tuple[slice, slice]:
    """Rows and columns of (3, H, W) that hold anything but the colour of the top left corner."""
    differs = (picture - picture[:, :1, :1]).abs().amax(0) > tolerance  # (H, W)
    if not differs.any():
        return slice(None), slice(None)
    rows, columns = differs.any(1).nonzero().flatten(), differs.any(0).nonzero().flatten()
    return slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1)


@torch.inference_mode()
def reconstructions(autoencoder: Autoencoder, pictures: Pictures) -> Iterator[tuple[Tensor, Tensor]]:
    """(output, target) pairs (3, H, W) of up to MAX_PICTURES pictures spread over the folder."""
    pictures = pictures.spread(MAX_PICTURES)
    device = next(autoencoder.parameters()).device
    for index in range(len(pictures)):
        target = pictures.batch([index])[0]
        yield autoencoder.decode(autoencoder.encode(target.unsqueeze(0).to(device)))[0].cpu(), target


def main(args: Namespace) -> int:
    """Run the command; `args` has model, data, device, resolution and json."""
    _, pictures, _ = load_pictures(Data(path=str(args.data), resolution=args.resolution))
    autoencoder = load_autoencoder(Path(args.model)).to(choose_device(args.device))
    whole, inside = [], []
    for output, target in reconstructions(autoencoder, pictures):
        rows, columns = bounding_box(target)
        whole.append(psnr(output[None], target[None]))
        inside.append(psnr(output[None, :, rows, columns], target[None, :, rows, columns]))
    result = {
        "pictures": len(whole),
        "psnr_db": round(float(torch.cat(whole).mean()), 2),
        "psnr_inside_db": round(float(torch.cat(inside).mean()), 2),
    }
    if args.json:
        print(json.dumps(result))
    else:
        print(f"{result['pictures']} held-out pictures at {args.resolution} px, mean PSNR per picture:")
        print(f"  whole picture            {result['psnr_db']} dB")
        print(f"  inside the bounding box  {result['psnr_inside_db']} dB")
    return 0
