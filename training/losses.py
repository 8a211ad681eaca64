"""The losses of both stages, each as its equation reads. Means are over pixel or latent elements."""

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution
from torch import Tensor

if TYPE_CHECKING:
    from models.features import FeatureNetwork


def reconstruction(output: Tensor, target: Tensor) -> Tensor:
    """mean |x^ - x|, both (B, 3, H, W)."""
    return (output - target).abs().mean()


def gradient(output: Tensor, target: Tensor, scales: int = 2) -> Tensor:
    """mean |d(x^ - x)| over horizontal and vertical differences, averaged over halved sizes."""
    error = output - target  # (B, 3, H, W); differences are linear
    total = output.new_zeros(())
    for scale in range(scales):
        if scale:
            error = F.avg_pool2d(error, 2)
        across = (error[..., :, 1:] - error[..., :, :-1]).abs().mean()
        down = (error[..., 1:, :] - error[..., :-1, :]).abs().mean()
        total = total + across + down
    return total / scales


def kl(posterior: DiagonalGaussianDistribution) -> Tensor:
    """mean KL(q(z|x) || N(0, 1)) per latent element: (mu^2 + sigma^2 - 1 - ln sigma^2) / 2."""
    mean, logvar = posterior.mean, posterior.logvar  # (B, C, h, w)
    per_element: Tensor = 0.5 * (mean**2 + logvar.exp() - 1.0 - logvar)  # (B, C, h, w)
    return per_element.mean()


def perceptual(network: "FeatureNetwork", output: Tensor, target: Tensor) -> Tensor:
    """Mean over layers of |phi(x^) - phi(x)|^2 with channel-wise unit features (Zhang et al. 2018, LPIPS)."""
    with torch.no_grad():
        wanted = network.maps(target)
    distances = [
        (F.normalize(got, dim=1) - F.normalize(want, dim=1)).square().sum(1).mean()
        for got, want in zip(network.maps(output), wanted, strict=True)
    ]
    return torch.stack(distances).mean()


def interpolate(latents: Tensor, noise: Tensor, t: Tensor) -> Tensor:
    """The rectified flow's path z_t = (1 - t) z + t e (Liu et al. 2022); t is (B,)."""
    t = t.view(-1, 1, 1, 1)
    return (1 - t) * latents + t * noise


def flow(velocity: Tensor, latents: Tensor, noise: Tensor) -> Tensor:
    """Per-sample mean of |v - (e - z)|^2, (B,)."""
    return (velocity - (noise - latents)).square().flatten(1).mean(1)
