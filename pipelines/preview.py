"""What half-finished latents look like, by one small matrix: fast enough for every step, on any machine."""

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from models.autoencoder import Autoencoder
from models.defaults import LatentPreview

PREVIEW_SCALE = 8  # a latent pixel is shown as 8 x 8


@torch.no_grad()
def fit_preview(autoencoder: Autoencoder, pixels: Tensor) -> LatentPreview:
    """The linear map from this autoencoder's latents to colours that fits these pictures best.

    `pixels` (B, 3, H, W) in [-1, 1]; a few dozen pictures are plenty. Least squares in float64.
    """
    parameter = next(autoencoder.parameters())
    latents = autoencoder.encode(pixels.to(parameter.device, parameter.dtype)).double()  # (B, C, h, w)
    small = F.interpolate(
        pixels.to(parameter.device).double(), latents.shape[-2:], mode="area"
    )  # (B, 3, h, w)
    inputs = latents.permute(0, 2, 3, 1).flatten(0, 2).cpu()  # (B h w, C)
    inputs = torch.cat([inputs, torch.ones(len(inputs), 1, dtype=torch.float64)], dim=1)  # (B h w, C + 1)
    colours = small.permute(0, 2, 3, 1).flatten(0, 2).cpu()  # (B h w, 3)
    # gelsd also solves what has no single solution, such as latents with a channel that is always 0.
    solution = torch.linalg.lstsq(inputs, colours, driver="gelsd").solution.tolist()  # (C + 1, 3)
    rows = [(red, green, blue) for red, green, blue in solution]
    return LatentPreview(tuple(rows[:-1]), rows[-1])


@torch.no_grad()
def preview_images(preview: LatentPreview, latents: Tensor, scale: int = PREVIEW_SCALE) -> list[Image.Image]:
    """Small RGB pictures of normalised latents (B, C, h, w), smoothed up `scale` times; NaN is black."""
    weight = torch.tensor(preview.weight, dtype=torch.float32)  # (C, 3)
    colours = latents.detach().float().cpu().permute(0, 2, 3, 1) @ weight + torch.tensor(preview.bias)
    pixels = ((colours + 1) * 127.5).nan_to_num(0.0).round().clamp(0, 255).to(torch.uint8).numpy()
    size = (latents.shape[-1] * scale, latents.shape[-2] * scale)
    return [Image.fromarray(array).resize(size, Image.Resampling.BICUBIC) for array in pixels]
