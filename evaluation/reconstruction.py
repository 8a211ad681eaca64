"""Any picture there and back by any autoencoder, and how much of it was kept."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps

from evaluation.autoencoder import ssim
from models.autoencoder import Autoencoder
from models.folder import load_autoencoder
from models.folder_check import model_name
from pipelines.decoding import to_images
from pipelines.result import StepEvent
from training.measures import psnr

MAX_SIDE = 512  # pixels; a larger picture is made smaller first
MULTIPLE = 16  # pixels; every autoencoder of f up to 16 takes its multiples


@dataclass(frozen=True, slots=True)
class Reconstruction:
    """What became of a picture: `numbers` of the latent for each pixel, which has three itself.

    `codes` is the size of the codebook, with VQ: its latent is one whole number below that for each place.
    """

    name: str
    image: Image.Image
    psnr_db: float
    ssim: float
    factor: int
    channels: int
    codes: int | None

    @property
    def numbers(self) -> float:
        """Numbers kept for each pixel."""
        return (1 if self.codes else self.channels) / self.factor**2

    @property
    def bits(self) -> float | None:
        """Bits kept for each pixel, with VQ."""
        return None if self.codes is None else math.log2(self.codes) / self.factor**2


@dataclass(frozen=True, slots=True)
class Comparison:
    """A picture, cut to what every autoencoder takes, and its reconstructions."""

    image: Image.Image
    reconstructions: tuple[Reconstruction, ...]


def fitted(image: Image.Image) -> Image.Image:
    """A picture with sides that every autoencoder takes: made smaller where it is large, then cut."""
    image = image.convert("RGB")
    scale = min(1.0, MAX_SIDE / max(image.size))
    width, height = (max(MULTIPLE, int(side * scale) // MULTIPLE * MULTIPLE) for side in image.size)
    return ImageOps.fit(image, (width, height), Image.Resampling.LANCZOS)


@torch.inference_mode()
def reconstruct(autoencoder: Autoencoder, image: Image.Image, name: str) -> Reconstruction:
    """A picture of fitting size there and back."""
    weight = next(autoencoder.parameters())
    pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1)[None].float() / 127.5 - 1  # (1, 3, H, W)
    output = autoencoder.decode(autoencoder.encode(pixels.to(weight))).float().cpu()
    return Reconstruction(
        name=name,
        image=to_images(output)[0],
        psnr_db=float(psnr(output, pixels)),
        ssim=float(ssim(output, pixels)),
        factor=autoencoder.downsampling_factor,
        channels=autoencoder.latent_channels,
        codes=int(autoencoder.vae.quantize.n_e) if autoencoder.regularizer == "vq" else None,
    )


def compare(image: Image.Image, folders: Sequence[Path]) -> Iterator[StepEvent | Comparison]:
    """Reconstruct a picture by the autoencoder of each folder; last yield the Comparison."""
    image = fitted(image)
    found = []
    for number, folder in enumerate(folders):
        found.append(reconstruct(load_autoencoder(folder), image, model_name(folder)))
        yield StepEvent(image_index=number, images=1, step=1, total=1, sigma=0.0, latents=None, denoised=None)
    yield Comparison(image, tuple(found))


def autoencoder_folders(models: Sequence[Path], runs: Path) -> list[Path]:
    """The folders with an autoencoder: of these models, then those that trainings export."""
    exported = sorted(config.parent.parent for config in runs.glob("*/model/vae/config.json"))
    return list(dict.fromkeys([*models, *exported]))
