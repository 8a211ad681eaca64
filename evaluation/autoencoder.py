"""`evaluate autoencoder`: how much of a held-out picture survives the trip through the latent."""

import sys
from argparse import Namespace
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from torchmetrics.functional.image import structural_similarity_index_measure
from tqdm import tqdm

from evaluation.distances import MIN_FRECHET_PICTURES, frechet_distance, kernel_distance
from evaluation.intervals import mean
from evaluation.networks import Network, read_network, shipped_network
from evaluation.record import record, show
from models.autoencoder import Autoencoder
from models.errors import RequestError
from models.features import FeatureNetwork
from models.folder import load_autoencoder, model_path
from pipelines.decoding import to_images
from pipelines.device import choose_device
from training.config import Data
from training.data.pictures import Pictures, load_pictures
from training.grid import save_grid
from training.losses import perceptual
from training.measures import psnr

MAX_PICTURES = 4096
SHEET_PICTURES = 24
DIFFERENCE_GAIN = 4  # how many times stronger a sheet shows the differences


def bounding_box(picture: Tensor, tolerance: float = 0.02) -> tuple[slice, slice]:
    """Rows and columns of (3, H, W) that hold anything but the colour of the top left corner."""
    differs = (picture - picture[:, :1, :1]).abs().amax(0) > tolerance  # (H, W)
    if not differs.any():
        return slice(None), slice(None)
    rows, columns = differs.any(1).nonzero().flatten(), differs.any(0).nonzero().flatten()
    return slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1)


def ssim(output: Tensor, target: Tensor) -> Tensor:
    """Structural similarity of each picture (B,), both (B, 3, H, W) in [-1, 1] (Wang et al. 2004)."""
    value = structural_similarity_index_measure(
        output.clamp(-1, 1) * 0.5 + 0.5, target * 0.5 + 0.5, data_range=1.0, reduction="none"
    )
    assert isinstance(value, Tensor)
    return value.reshape(len(output))  # one number where there is one picture


@dataclass(frozen=True, slots=True)
class Trip:
    """One picture and what became of it: pixels (3, H, W) in [-1, 1], normalised latents (C, h, w)."""

    target: Tensor
    latents: Tensor
    output: Tensor
    codes: Tensor | None  # numbers of the nearest codes (h, w), with VQ


@torch.inference_mode()
def trips(autoencoder: Autoencoder, pictures: Pictures) -> Iterator[Trip]:
    """Up to MAX_PICTURES pictures spread over the folder, there and back."""
    pictures = pictures.spread(MAX_PICTURES)
    device = next(autoencoder.parameters()).device
    numbers = tqdm(range(len(pictures)), unit="picture", leave=False, disable=not sys.stderr.isatty())
    for index in numbers:
        target = pictures.batch([index])  # (1, 3, H, W)
        latents = autoencoder.encode(target.to(device))
        codes = None
        if autoencoder.regularizer == "vq":
            codes = autoencoder.quantize(autoencoder.normalizer.denormalize(latents))[1][0].cpu()
        yield Trip(target[0], latents[0].cpu(), autoencoder.decode(latents)[0].cpu(), codes)


class Sums:
    """Means and deviations of each latent channel, and how often each code was used, over pictures."""

    def __init__(self) -> None:
        self.count = 0
        self.first, self.second = torch.zeros(()), torch.zeros(())
        self.uses: Tensor | None = None

    def add(self, trip: Trip, codes: int) -> None:
        """Count one picture in; `codes` is the size of the codebook."""
        flat = trip.latents.double().flatten(1)  # (C, h w)
        self.count += flat.shape[1]
        self.first, self.second = self.first + flat.sum(1), self.second + flat.square().sum(1)
        if trip.codes is not None:
            uses = torch.bincount(trip.codes.flatten(), minlength=codes)
            self.uses = uses if self.uses is None else self.uses + uses

    def result(self) -> dict[str, Any]:
        """Per channel mean and std; with VQ the share of codes in use and their perplexity."""
        middle = self.first / self.count
        spread = (self.second / self.count - middle.square()).clamp(min=0).sqrt()  # rounding may go below 0
        result: dict[str, Any] = {
            "latent_mean": [round(float(value), 4) for value in middle],
            "latent_std": [round(float(value), 4) for value in spread],
        }
        if self.uses is not None:
            share = self.uses / self.uses.sum()
            result["codebook_usage"] = round(float((self.uses > 0).double().mean()), 4)
            result["codebook_perplexity"] = round(float(torch.special.entr(share).sum().exp()), 2)
        return result


def measure(
    autoencoder: Autoencoder, pictures: Pictures, sheet: Path | None, network: Network | None = None
) -> dict[str, Any]:
    """Everything that is measured of an autoencoder; `sheet` gets pictures to look at.

    The perceptual distance, which takes a network's maps, is by the shipped one alone.
    """
    network = network or shipped_network()
    embedder = network.embedder
    codes = autoencoder.vae.quantize.n_e if autoencoder.regularizer == "vq" else 0
    whole, inside, similar, felt, sums = [], [], [], [], Sums()
    real, rebuilt = [], []
    shown: list[Image.Image] = []
    for trip in trips(autoencoder, pictures):
        output, target = trip.output[None].clamp(-1, 1), trip.target[None]
        rows, columns = bounding_box(trip.target)
        whole.append(psnr(output, target))
        inside.append(psnr(output[:, :, rows, columns], target[:, :, rows, columns]))
        similar.append(ssim(output, target))
        with torch.inference_mode():
            if isinstance(embedder, FeatureNetwork):
                felt.append(perceptual(embedder, output, target)[None])
            real.append(embedder.embed(target))
            rebuilt.append(embedder.embed(output))
        sums.add(trip, codes)
        if sheet is not None and len(shown) < 3 * SHEET_PICTURES:
            difference = ((output - target) / 2 * DIFFERENCE_GAIN).clamp(-1, 1)
            shown += [image for pixels in (target, output, difference) for image in to_images(pixels)]
    if len(whole) < 2:
        raise RequestError("an interval needs two held-out pictures at least; name a folder with more")
    values = (("psnr_db", whole), ("psnr_box_db", inside), ("ssim", similar), ("perceptual", felt))
    features, features_rebuilt = torch.cat(real), torch.cat(rebuilt)
    result: dict[str, Any] = {"pictures": len(whole)}
    for name, parts in values:
        if parts:
            result |= mean(torch.cat(parts)).entry(name)
    result |= {
        "features": network.name,
        "kernel_distance": round(kernel_distance(features, features_rebuilt), 6),
        "frechet_distance": None,
        **sums.result(),
        "numbers_per_pixel": round(trip.latents.numel() / trip.target[0].numel(), 4),
    }
    if len(features) >= MIN_FRECHET_PICTURES:
        result["frechet_distance"] = round(frechet_distance(features, features_rebuilt), 3)
    if sheet is not None:
        save_sheet(shown, sheet)
    return result


def save_sheet(shown: list[Image.Image], path: Path) -> None:
    """Originals, reconstructions and differences, in this order and three of each to a row."""
    save_grid(shown, path, columns=9)


def lines(result: dict[str, Any], resolution: int) -> list[str]:
    """A result as a table for people, in Markdown."""
    features, frechet = result["features"], result["frechet_distance"]
    rows = {
        "PSNR, whole picture": f"{_ends(result, 'psnr_db', 2)} dB",
        "PSNR, inside the thing's bounding box": f"{_ends(result, 'psnr_box_db', 2)} dB",
        "SSIM": _ends(result, "ssim", 4),
    }
    if "perceptual" in result:
        rows[f"perceptual distance ({features})"] = _ends(result, "perceptual", 4)
    rows |= {
        f"kernel distance ({features})": f"{result['kernel_distance']:.5f}",
        f"Frechet distance ({features})": f"needs {MIN_FRECHET_PICTURES} pictures"
        if frechet is None
        else f"{frechet:.3f}",
        "latent channels, mean": " ".join(f"{value:.2f}" for value in result["latent_mean"]),
        "latent channels, std": " ".join(f"{value:.2f}" for value in result["latent_std"]),
        "numbers kept per pixel, of 3": result["numbers_per_pixel"],
    }
    if "codebook_usage" in result:
        rows["codes in use"] = f"{result['codebook_usage']:.1%}"
        rows["codebook perplexity"] = result["codebook_perplexity"]
    head = f"{result['pictures']} held-out pictures at {resolution} px; 95% intervals."
    return [head, "", "| measure | |", "|---|---|", *(f"| {name} | {said} |" for name, said in rows.items())]


def _ends(result: dict[str, Any], name: str, digits: int) -> str:
    low, high = result[f"{name}_interval"]
    return f"{result[name]:.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"


def main(args: Namespace) -> int:
    """Run the command; `args` has model, data, features, device, resolution, sheet and json."""
    if args.sheet is not None and not args.sheet.absolute().parent.is_dir():
        raise RequestError(f"{args.sheet} cannot be written: its folder does not exist")
    network = read_network(args.features)
    _, pictures, _ = load_pictures(Data(path=str(args.data), resolution=args.resolution))
    folder = model_path(args.model)
    autoencoder = load_autoencoder(folder).to(choose_device(args.device))
    result = {"resolution": args.resolution, **measure(autoencoder, pictures, args.sheet, network)}
    told = lines(result, args.resolution)
    record(folder, "autoencoder", result, told, None if network.is_shipped else network.name)
    show(result, told, args.json)
    return 0
