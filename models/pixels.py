"""The first stage of diffusion in pixel space: the latents are the picture itself, f = 1."""

from dataclasses import dataclass

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from torch import Tensor, nn

PIXELS = "pixels"  # what names it in the place of a folder


@dataclass(frozen=True, slots=True)
class Encoded:
    """What `Pixels.encode` gives: latents (B, 3, H, W)."""

    latents: Tensor


@dataclass(frozen=True, slots=True)
class Decoded:
    """What `Pixels.decode` gives: pixels (B, 3, H, W)."""

    sample: Tensor


class Pixels(ModelMixin, ConfigMixin):  # type: ignore[misc]
    """Stands where `models.autoencoder.Autoencoder` has a network: brings each colour to mean 0 and std 1.

    `mean` and `std` (3, 1, 1) are those of the pictures' pixels in [-1, 1]; they are kept as weights.
    """

    @register_to_config  # type: ignore[untyped-decorator]
    def __init__(
        self,
        in_channels: int = 3,
        latent_channels: int = 3,
        block_out_channels: tuple[int, ...] = (3,),  # one level: nothing is made smaller
        scaling_factor: float = 1.0,
    ) -> None:
        super().__init__()
        self.mean = nn.Parameter(torch.zeros(latent_channels, 1, 1))
        self.std = nn.Parameter(torch.ones(latent_channels, 1, 1))

    def encode(self, pixels: Tensor) -> Encoded:
        """Latents of pixels, both (B, 3, H, W)."""
        return Encoded((pixels - self.mean) / self.std)

    def decode(self, latents: Tensor) -> Decoded:
        """Pixels of latents, both (B, 3, H, W)."""
        return Decoded(latents * self.std + self.mean)
