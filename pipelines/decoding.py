"""From latents, and from pixels, to pictures."""

import torch
from PIL import Image
from torch import Tensor

from models.autoencoder import Autoencoder
from models.errors import StudioError
from pipelines.memory import WHOLE_BYTES, Plan
from pipelines.tiles import Decode, decode


@torch.inference_mode()
def decode_images(
    autoencoder: Autoencoder,
    latents: Tensor,
    seamless: bool = False,
    plan: Plan | None = None,
    whole: Decode | None = None,
) -> list[Image.Image]:
    """Turn normalised latents (B, C, h, w) into RGB pictures, as a plan for the memory says.

    `whole` is what decodes in the place of the autoencoder all that needs no tiles.
    Raises: StudioError if the decoder gives NaN.
    """
    if plan is not None and (plan.one_by_one or plan.tiled) and len(latents) > 1:
        return [decode_images(autoencoder, one[None], seamless, plan, whole)[0] for one in latents]
    dtype = next(autoencoder.parameters()).dtype
    whole_bytes = 0 if plan is not None and plan.tiled else WHOLE_BYTES
    pixels = decode(autoencoder, latents.to(dtype), seamless, whole, whole_bytes)
    pixels = pixels.float()  # (B, 3, H, W) in about [-1, 1]
    if not torch.isfinite(pixels).all():
        raise StudioError(f"The decoder gave numbers that are not finite (NaN) in {dtype}; try float32.")
    return to_images(pixels)


def to_images(pixels: Tensor) -> list[Image.Image]:
    """(B, 3, H, W) in [-1, 1] to pictures, clamped."""
    bytes_ = ((pixels.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()
    return [Image.fromarray(array) for array in bytes_]
