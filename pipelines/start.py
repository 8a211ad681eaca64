"""The clean latents that sampling starts from where a request brings a picture, and how some of them stay."""

import math
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from models.autoencoder import Autoencoder
from models.defaults import ImageCondition
from models.image_condition import image_condition, resize
from pipelines.canvas import Canvas, to_pixels
from pipelines.noise import Noise
from pipelines.request_parts import Fill, Upscaler

OTHER_SEED = 0x9E3779B9  # what fills a hole is independent of the noise that is added to it


@dataclass(frozen=True, slots=True, eq=False)
class Start:
    """Clean latents (1 or B, C, h, w), and where they may change, (1, 1, h, w) bool; None is everywhere."""

    clean: Tensor
    free: Tensor | None = None

    def noised(self, noise: Tensor, sigma: float) -> Tensor:
        """Variance-preserving latents (B, C, h, w) at noise level sigma."""
        return (self.clean + sigma * noise) / math.hypot(1, sigma)

    def keep(self, epsilon: Tensor, x: Tensor, sigma: float) -> Tensor:
        """The model's epsilon (B, C, h, w), but where nothing may change the one that leads to `clean`.

        So what stays is at each step the original at the noise level of the step, whatever the sampler.
        """
        if self.free is None:
            return epsilon
        return torch.where(self.free, epsilon, (x * math.hypot(1, sigma) - self.clean) / sigma)

    def restore(self, latents: Tensor) -> Tensor:
        """Finished latents (B, C, h, w) with what stays exactly as it was."""
        return latents if self.free is None else torch.where(self.free, latents, self.clean)


@torch.inference_mode()
def start_from(
    canvas: Canvas, autoencoder: Autoencoder, fill: Fill, noise: Noise, from_noise: bool, conditioned: bool
) -> Start | None:
    """Where sampling starts on a canvas, None where it starts from noise alone.

    `from_noise`: nothing of what is painted anew is kept. `conditioned` models are shown the rest of the
    picture by their own condition, and may change all latents.
    """
    if canvas.mask is None:
        return None if from_noise else Start(_encoded(autoencoder, canvas.pixels))
    latents = _encoded(autoencoder, canvas.pixels)  # (1, C, h, w)
    free = F.max_pool2d(canvas.mask, autoencoder.downsampling_factor).bool().to(latents.device)
    if from_noise or fill == "latent nothing":
        latents = torch.where(free, torch.zeros_like(latents), latents)
    elif fill == "latent noise":
        other = Noise(
            [(seed + OTHER_SEED) % 2**32 for seed in (noise.variation_seeds or noise.seeds)], noise.kind
        )
        latents = torch.where(free, other.draw(latents.shape[1:]).to(latents), latents)  # (B, C, h, w)
    return Start(latents, None if conditioned else free)


@torch.inference_mode()
def condition_from(canvas: Canvas, kind: ImageCondition, autoencoder: Autoencoder) -> Tensor:
    """What a model with an image condition is shown of a canvas, (1, 1 + C, h, w)."""
    weight = next(autoencoder.parameters())
    pixels = canvas.pixels.to(weight)  # (1, 3, H, W)
    if kind.kind == "upscale":
        small = resize(pixels, 1 / kind.factor)
        return image_condition(autoencoder, resize(small, kind.factor), torch.zeros_like(pixels[:, :1]))
    mask = torch.ones_like(pixels[:, :1]) if canvas.mask is None else canvas.mask.to(weight)
    return image_condition(autoencoder, pixels, mask)


@torch.inference_mode()
def enlarged(
    latents: Tensor,
    images: list[Image.Image],
    size: tuple[int, int],
    upscaler: Upscaler,
    autoencoder: Autoencoder,
) -> Start:
    """Finished latents (B, C, h, w), or the pictures they are, at a larger size (width, height) in pixels."""
    if upscaler == "Latent":
        factor = autoencoder.downsampling_factor
        return Start(F.interpolate(latents, (size[1] // factor, size[0] // factor), mode="bilinear"))
    larger = [image.resize(size, Image.Resampling.LANCZOS) for image in images]
    return Start(_encoded(autoencoder, torch.cat([to_pixels(np.asarray(image)) for image in larger])))


def _encoded(autoencoder: Autoencoder, pixels: Tensor) -> Tensor:
    """Normalised latents (B, C, h, w) in float32 of pixels (B, 3, H, W) in [-1, 1]."""
    return autoencoder.encode(pixels.to(next(autoencoder.parameters()))).float()
