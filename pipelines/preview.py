"""A picture of half-finished latents in microseconds: one linear map from latent channels to colours."""

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from models.autoencoder import Autoencoder
from models.defaults import LatentPreview


@torch.no_grad()
def fit_preview(autoencoder: Autoencoder, pixels: Tensor) -> LatentPreview:
    """Fit the map by least squares from latents of (B, 3, H, W) pictures to the pictures shrunk by f."""
    latents = autoencoder.encode(pixels)  # (B, C, h, w)
    colours = F.avg_pool2d(pixels, autoencoder.downsampling_factor)  # (B, 3, h, w)
    rows = latents.movedim(1, -1).flatten(0, 2)  # (B h w, C)
    ones = torch.ones(len(rows), 1)
    solution = torch.linalg.lstsq(torch.cat([rows, ones], 1), colours.movedim(1, -1).flatten(0, 2)).solution
    *weight, bias = (tuple(round(value, 5) for value in row) for row in solution.tolist())
    return LatentPreview(tuple(weight), bias)


@torch.no_grad()
def preview_image(preview: LatentPreview, latents: Tensor, scale: int) -> Image.Image:
    """One picture of latents (C, h, w), each position a smooth patch of `scale` pixels."""
    weight, bias = torch.tensor(preview.weight), torch.tensor(preview.bias)
    colours = latents.float().cpu().movedim(0, -1) @ weight + bias  # (h, w, 3)
    array = ((colours.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).numpy()
    image = Image.fromarray(array)
    return image.resize((image.width * scale, image.height * scale), Image.Resampling.BICUBIC)
