"""What a model with an image condition is shown beside its noisy latents (Rombach et al. 2022, 4.4 and 4.5).

The condition is a mask (1 = to be painted) and the latents of a picture, joined to z_t along the channels in
the order of diffusers' inpainting models: (z_t, mask, condition latents), C + 1 + C channels.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from models.autoencoder import Autoencoder
from models.defaults import ImageCondition
from models.errors import RequestError


def image_condition(autoencoder: Autoencoder, pixels: Tensor, mask: Tensor) -> Tensor:
    """The condition (B, 1 + C, h, w) of pictures (B, 3, H, W) whose masked parts, (B, 1, H, W), are unknown.

    A latent that lies on any unknown pixel is unknown. Enlarging knows all of a blurred picture.
    """
    latents = autoencoder.encode(pixels * (1 - mask))  # (B, C, h, w); 0 is grey
    return torch.cat([F.max_pool2d(mask, autoencoder.downsampling_factor), latents], dim=1)


def no_picture(kind: ImageCondition, autoencoder: Autoencoder, height: int, width: int) -> Tensor:
    """The condition (1, 1 + C, h, w) of drawing from words alone: all of the picture is to be painted.

    Raises RequestError for a model that enlarges pictures, which needs one.
    """
    if kind.why_not_words is not None:
        raise RequestError(kind.why_not_words)
    weight = next(autoencoder.parameters())
    device = "cpu" if weight.is_meta else weight.device  # weights that rest in their file are read to the CPU
    grey = torch.zeros(1, 3, height, width, device=device, dtype=weight.dtype)
    return image_condition(autoencoder, grey, torch.ones_like(grey[:, :1]))


def resize(pixels: Tensor, factor: float) -> Tensor:
    """Pictures (B, 3, H, W) in [-1, 1] `factor` times as large a side, bicubic as in the paper's 4.4."""
    return F.interpolate(pixels, scale_factor=factor, mode="bicubic", antialias=True).clamp(-1, 1)
