"""Training pictures as a model with an image condition is shown them: with holes, or blurred."""

import hashlib
from collections.abc import Sequence

import torch
from torch import Tensor

from models.autoencoder import Autoencoder
from models.defaults import ImageCondition
from models.errors import ConfigError
from models.image_condition import image_condition, resize
from training.cache import Latents
from training.config import DiffusionConfig
from training.data.pictures import Pictures
from training.masks import random_mask
from training.seeds import seed_for


def image_condition_of(config: DiffusionConfig) -> ImageCondition | None:
    """The image condition of a configuration; ConfigError where the sizes do not go together."""
    model, data = config.model, config.data
    if model.image_condition == "none":
        return None
    if model.image_condition == "inpaint":
        return ImageCondition("inpaint")
    sides = [data.resolution] if data.buckets == 1 else [data.resolution, data.bucket_multiple]
    if any(side % model.upscale_factor for side in sides):
        raise ConfigError(
            f"data.resolution {data.resolution} and data.bucket_multiple {data.bucket_multiple} must be "
            f"multiples of model.upscale_factor, {model.upscale_factor}"
        )
    return ImageCondition("upscale", model.upscale_factor)


class Blurred(Pictures):
    """Pictures made `factor` times smaller and as large again, as whoever enlarges them is shown them."""

    def __init__(self, pictures: Pictures, factor: int) -> None:
        super().__init__(
            pictures.index, pictures.numbers, pictures.shapes, pictures.buckets, pictures.background
        )
        self.factor = factor

    @property
    def digest(self) -> str:
        """A hash of everything that decides the tensors."""
        return hashlib.sha256(f"{super().digest} {self.factor}".encode()).hexdigest()

    def read(self, indices: Sequence[int]) -> tuple[Tensor, list[int]]:
        """Blurred pictures of one bucket (B, 3, H, W), and which they are."""
        pixels, shown = super().read(indices)
        return blurred(pixels, self.factor), shown


def blurred(pixels: Tensor, factor: int) -> Tensor:
    """Pictures (B, 3, H, W) without the details that are lost when they are made `factor` times smaller."""
    return resize(resize(pixels, 1 / factor), factor)


class ShownPictures:
    """The image conditions of a training's pictures; the hole of a row is a function of seed, step, position.

    `latents` are those of the blurred pictures, which are the same at every step.
    """

    def __init__(
        self,
        condition: ImageCondition,
        autoencoder: Autoencoder,
        pictures: Pictures,
        seed: int,
        latents: Latents | None = None,
    ) -> None:
        self.condition, self.autoencoder, self.pictures = condition, autoencoder, pictures
        self.seed, self.latents = seed, latents

    def batch(self, indices: Sequence[int], flipped: Tensor, step: int, positions: range) -> Tensor:
        """The conditions (B, 1 + C, h, w) of pictures of one bucket, mirrored where `flipped` (B,)."""
        if self.latents is not None:
            latents, _ = self.latents.read(indices, flipped)  # (B, C, h, w)
            return torch.cat([torch.zeros_like(latents[:, :1]), latents], dim=1)
        pixels = self.pictures.batch(indices)  # (B, 3, H, W)
        return self.encode(torch.where(flipped[:, None, None, None], pixels.flip(3), pixels), step, positions)

    @torch.no_grad()
    def encode(self, pixels: Tensor, step: int, positions: Sequence[int]) -> Tensor:
        """The conditions (B, 1 + C, h, w) of pictures (B, 3, H, W), on the autoencoder's device."""
        pixels = pixels.to(next(self.autoencoder.parameters()).device)
        return image_condition(self.autoencoder, *self.views(pixels, step, positions))

    def views(self, pixels: Tensor, step: int, positions: Sequence[int]) -> tuple[Tensor, Tensor]:
        """What is seen of pictures (B, 3, H, W), and the mask (B, 1, H, W) of what is not."""
        if self.condition.kind == "upscale":
            return blurred(pixels, self.condition.factor), torch.zeros_like(pixels[:, :1])
        height, width = pixels.shape[2:]
        seeds = [seed_for(self.seed, step, f"mask {position}") for position in positions]
        mask = torch.stack([random_mask(height, width, seed) for seed in seeds]).to(pixels.device)
        return pixels * (1 - mask), mask
