"""The one place where raw latents of an autoencoder become latents of mean 0 and standard deviation 1."""

from collections.abc import Mapping
from typing import Any

import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.autoencoders.vq_model import VQModel
from torch import Tensor, nn


class LatentNormalizer(nn.Module):
    """Per-channel affine between raw latents (B, C, h, w) and normalised ones.

    Reads every convention of diffusers' configs: `latents_mean` and `latents_std`, or
    `shift_factor` and `scaling_factor` with normalised = (raw - shift) * scaling.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__()
        channels = config.get("vq_embed_dim") or config["latent_channels"]
        shift = config.get("shift_factor")
        mean = config.get("latents_mean") or [0.0 if shift is None else shift] * channels
        std = config.get("latents_std") or [1.0 / config["scaling_factor"]] * channels
        self.register_buffer("mean", torch.tensor(mean).view(1, -1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(1, -1, 1, 1), persistent=False)

    def normalize(self, raw: Tensor) -> Tensor:
        """Raw latents to latents of mean 0 and standard deviation 1."""
        return (raw - self.mean) / self.std

    def denormalize(self, latents: Tensor) -> Tensor:
        """Latents of mean 0 and standard deviation 1 to what the decoder reads."""
        return latents * self.std + self.mean


@torch.no_grad()
def fold_normalization(vae: AutoencoderKL | VQModel, mean: Tensor, std: Tensor) -> None:
    """Fold the affine z -> (z - mean) / std into the 1x1 convolutions around the latent.

    `mean` is (C,), `std` (C,) too, but (1,) for VQ: codes move with the latents, and only one scale for all
    channels leaves each latent its nearest code. Exact: afterwards the encoder gives latents of mean 0 and
    standard deviation 1, the decoder takes them, and `scaling_factor` is 1.
    """
    std = std.clamp(min=1e-6)  # a channel that never changes stays finite, and comes back as it was
    channels = mean.numel()
    quant, post_quant = vae.quant_conv, vae.post_quant_conv
    quant.weight[:channels] /= std.view(-1, 1, 1, 1)
    quant.bias[:channels] = (quant.bias[:channels] - mean) / std
    post_quant.bias += torch.einsum("oihw,i->o", post_quant.weight, mean)
    post_quant.weight *= std.view(1, -1, 1, 1)
    if isinstance(vae, VQModel):
        if std.numel() != 1:
            raise ValueError(f"a codebook takes one standard deviation, not {std.numel()}")
        codes = vae.quantize.embedding.weight  # (K, C)
        codes.copy_((codes - mean) / std)
        vae.register_to_config(scaling_factor=1.0)
    else:
        quant.bias[channels:] -= 2 * std.log()  # the second half is log variance
        vae.register_to_config(scaling_factor=1.0, shift_factor=None, latents_mean=None, latents_std=None)
