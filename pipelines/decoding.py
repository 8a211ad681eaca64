"""From latents, and from pixels, to pictures."""

import torch
from PIL import Image
from torch import Tensor

from models.autoencoder import Autoencoder
from models.errors import StudioError
from pipelines.tiles import Decode, decode


@torch.inference_mode()
def decode_images(
    autoencoder: Autoencoder, latents: Tensor, seamless: bool = False, whole: Decode | None = None
) -> list[Image.Image]:
    """Turn normalised latents (B, C, h, w) into RGB pictures; StudioError if the decoder gives NaN.

    `whole` is what decodes in the place of the autoencoder all that needs no tiles.
    """
    dtype = next(autoencoder.parameters()).dtype
    pixels = decode(autoencoder, latents.to(dtype), seamless, whole).float()  # (B, 3, H, W) in about [-1, 1]
    if not torch.isfinite(pixels).all():
        raise StudioError(f"The decoder gave numbers that are not finite (NaN) in {dtype}; try float32.")
    return to_images(pixels)


def to_images(pixels: Tensor) -> list[Image.Image]:
    """(B, 3, H, W) in [-1, 1] to pictures, clamped."""
    bytes_ = ((pixels.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()
    return [Image.fromarray(array) for array in bytes_]
