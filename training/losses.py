"""The losses of stage 1, each as its equation reads. Means are over pixel or latent elements.

With KL, the code of the latent diffusion paper sums over a picture's elements instead. Divided by the number
of pixel elements its loss is ours, with kl_weight = its weight x latent elements / pixel elements: its 1e-6
is 1e-6 / 16 with f = 4 and 3 channels, 1e-6 / 48 with f = 8 and 4 or f = 16 and 16.
"""

from collections.abc import Sequence
from typing import Protocol

import torch
import torch.nn.functional as F
from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution
from torch import Tensor


class FeatureMaps(Protocol):
    """A frozen network for perceptual distances."""

    @property
    def channel_weights(self) -> Sequence[float | Tensor]:
        """What each map's channels weigh: one number for all, or (C, 1, 1)."""

    def maps(self, pixels: Tensor) -> list[Tensor]:
        """Feature maps of pixels (B, 3, H, W) in [-1, 1]."""


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
    mean, logvar = posterior.mean.float(), posterior.logvar.float()  # (B, C, h, w)
    per_element: Tensor = 0.5 * (mean**2 + logvar.exp() - 1.0 - logvar)  # (B, C, h, w)
    return per_element.mean()


def perceptual(network: FeatureMaps, output: Tensor, target: Tensor) -> Tensor:
    """sum_l mean_hw w_l . |phi_l(x^) - phi_l(x)|^2, phi of unit length (Zhang et al. 2018, equation 1)."""
    with torch.no_grad():
        wanted = network.maps(target)
    distances = [
        (weight * (F.normalize(got.float()) - F.normalize(want.float())).square()).sum(1).mean()
        for weight, got, want in zip(network.channel_weights, network.maps(output), wanted, strict=True)
    ]
    return torch.stack(distances).sum()


def nll(distance: Tensor, logvar: Tensor) -> Tensor:
    """d / exp(logvar) + logvar: a negative log likelihood with learned scale, up to a constant."""
    return distance / logvar.exp() + logvar


def codebook(latents: Tensor, codes: Tensor, commitment: float = 0.25) -> Tensor:
    """mean |sg[z] - e|^2 + beta mean |z - sg[e]|^2 (van den Oord et al. 2017, equation 3).

    beta stands before the commitment of the encoder, not before the codes' term as in the code of the
    latent diffusion paper ("legacy") and in diffusers' VectorQuantizer.
    """
    toward_latents = (latents.detach() - codes).square().mean()
    toward_codes = (latents - codes.detach()).square().mean()
    return toward_latents + commitment * toward_codes


def generator(fake: Tensor) -> Tensor:
    """-mean D(x^), on logits of the discriminator (Lim & Ye 2017)."""
    return -fake.mean()


def discriminator(real: Tensor, fake: Tensor) -> Tensor:
    """mean [max(0, 1 - D(x)) + max(0, 1 + D(x^))] / 2, the hinge (Lim & Ye 2017)."""
    return 0.5 * (F.relu(1 - real).mean() + F.relu(1 + fake).mean())


def adaptive_weight(nll_gradient: Tensor, generator_gradient: Tensor, highest: float = 10.0) -> Tensor:
    """|grad nll| / (|grad g| + 1e-4) at the decoder's last layer (Esser et al. 2021, equation 7).

    In this form of means the weight is that of a sum over pixel elements, divided by their number, so the
    bound is lower than the 1e4 of the paper's code.
    """
    ratio: Tensor = nll_gradient.norm() / (generator_gradient.norm() + 1e-4)
    return ratio.clamp(max=highest).detach()
