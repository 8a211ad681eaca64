"""Stage 1 of latent diffusion: between pixels and latents (Rombach et al. 2022, section 3.1)."""

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution
from torch import Tensor, nn

from models.errors import ConfigError
from models.normalizer import LatentNormalizer

# A picture is folded by 2x2 pixel-unshuffle first (12 channels), so every level works at half the size.
PRESETS: dict[str, dict[str, Any]] = {
    # name: widths of the levels, residual blocks per level, latent channels; f = 2 * 2^(levels - 1)
    "tiny": {
        "block_out_channels": (16, 32),
        "layers_per_block": 1,
        "latent_channels": 4,
        "norm_num_groups": 8,
    },
    "starter": {
        "block_out_channels": (48, 96, 192),
        "layers_per_block": 1,
        "latent_channels": 8,
        "norm_num_groups": 16,
    },
}


class Autoencoder(nn.Module):
    """Pixels (B, 3, H, W) in [-1, 1] to normalised latents (B, C, H/f, W/f) and back."""

    def __init__(self, vae: AutoencoderKL) -> None:
        super().__init__()
        self.vae = vae
        self.patch_size = round((vae.config.in_channels / 3) ** 0.5)
        if vae.config.in_channels != 3 * self.patch_size**2:
            raise ConfigError(
                f"an autoencoder with {vae.config.in_channels} input channels cannot read colour pictures; "
                "use 3, or 12 for 2x2 pixel-unshuffled ones"
            )
        self.latent_channels: int = vae.config.latent_channels
        self.downsampling_factor = self.patch_size * 2 ** (len(vae.config.block_out_channels) - 1)
        self.normalizer = LatentNormalizer(vae.config)

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> "Autoencoder":
        """An autoencoder with random weights, from diffusers' own config keys."""
        return cls(AutoencoderKL.from_config(dict(config)))

    def posterior(self, pixels: Tensor) -> DiagonalGaussianDistribution:
        """The encoder's raw Gaussian q(z | x), before normalisation."""
        folded = F.pixel_unshuffle(pixels, self.patch_size)  # (B, 3 p p, H/p, W/p)
        posterior: DiagonalGaussianDistribution = self.vae.encode(folded).latent_dist  # (B, C, H/f, W/f)
        return posterior

    def reconstruct(self, raw: Tensor) -> Tensor:
        """Raw latents (B, C, h, w) to pixels (B, 3, h f, w f)."""
        folded: Tensor = self.vae.decode(raw).sample  # (B, 3 p p, H/p, W/p)
        return F.pixel_shuffle(folded, self.patch_size)  # (B, 3, H, W)

    def encode(self, pixels: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Normalised latents of a picture: the mode, or a sample when a generator is given."""
        posterior = self.posterior(pixels)
        raw = posterior.mode() if generator is None else posterior.sample(generator)
        return self.normalizer.normalize(raw)

    def decode(self, latents: Tensor) -> Tensor:
        """Pixels of normalised latents, about [-1, 1] and not clamped."""
        return self.reconstruct(self.normalizer.denormalize(latents))


def build_autoencoder(preset: str) -> Autoencoder:
    """An untrained autoencoder of a named size.

    Raises: ConfigError for an unknown preset.
    """
    if preset not in PRESETS:
        raise ConfigError(f"unknown autoencoder preset {preset!r}; choose from {', '.join(PRESETS)}")
    sizes = PRESETS[preset]
    levels = len(sizes["block_out_channels"])
    return Autoencoder(
        AutoencoderKL(
            in_channels=12,
            out_channels=12,
            down_block_types=("DownEncoderBlock2D",) * levels,
            up_block_types=("UpDecoderBlock2D",) * levels,
            mid_block_add_attention=False,  # convolutions alone: trained on crops, used at any size
            scaling_factor=1.0,
            sample_size=64,
            **sizes,
        )
    )
