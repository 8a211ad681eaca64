"""A world where everything is known: data N(MEAN, STD^2) in every latent, and the perfect model of it.

The probability flow moves a latent x at noise level sigma along (x - MEAN) / sqrt(STD^2 + sigma^2) = const.
"""

import math
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

from models.denoiser import Denoiser, PredictionType
from models.text_encoder import TextStates
from pipelines.noise import Noise
from pipelines.result import StepEvent
from pipelines.sampling import sample_latents

MEAN, STD = 0.3, 0.5
STATES = TextStates(torch.zeros(1, 1, 1), torch.ones(1, 1, dtype=torch.bool), torch.zeros(1, 1))
STABLE_DIFFUSION_BETAS = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2


class PerfectUNet(nn.Module):
    """Answers as a UNet of this prediction type would that knows the data."""

    config = SimpleNamespace(class_embed_type=None, addition_embed_type=None)

    def __init__(self, prediction_type: PredictionType, betas: Tensor | None) -> None:
        super().__init__()
        self.prediction_type = prediction_type
        self.betas = betas
        self.precision = nn.Parameter(torch.zeros(1))

    def forward(self, z: Tensor, t: Tensor, **_: Any) -> tuple[Tensor]:
        time = float(t[0])
        if self.prediction_type == "flow":
            time /= 1000
            variance = ((1 - time) * STD) ** 2 + time**2
            velocity = (time - (1 - time) * STD**2) / variance * (z - (1 - time) * MEAN) - MEAN
            return (velocity,)
        assert self.betas is not None
        abars = torch.cumprod(1 - self.betas, 0)
        log_sigmas = ((1 - abars) / abars).log() / 2
        low = min(int(time), len(abars) - 2)
        sigma = float(torch.lerp(log_sigmas[low], log_sigmas[low + 1], time - low).exp())
        signal, noise = 1 / math.hypot(1, sigma), sigma / math.hypot(1, sigma)  # sqrt(abar), sqrt(1 - abar)
        epsilon = noise * (z - signal * MEAN) / ((signal * STD) ** 2 + noise**2)
        if self.prediction_type == "epsilon":
            return (epsilon,)
        return (signal * epsilon - noise * (z - noise * epsilon) / signal,)


def perfect_denoiser(prediction_type: PredictionType, distilled: bool = False) -> Denoiser:
    betas = None if prediction_type == "flow" else STABLE_DIFFUSION_BETAS
    return Denoiser(PerfectUNet(prediction_type, betas), prediction_type, betas, distilled)


def draw(
    denoiser: Denoiser,
    scheduler: Any,
    noise: Noise | None = None,
    shape: tuple[int, int, int] = (4, 8, 8),
    **options: Any,
) -> tuple[Tensor, list[StepEvent]]:
    """The latents and every event of a whole run."""
    words = {"cond": STATES, "uncond": STATES} | options
    steps = sample_latents(denoiser, scheduler, noise or Noise([0]), shape, **words)
    events = []
    while True:
        try:
            events.append(next(steps))
        except StopIteration as end:
            return end.value, events


def relative_error(latents: Tensor, events: list[StepEvent]) -> float:
    """Distance from where the exact flow carries the first latents, relative to its length."""
    sigma, seen = events[0].sigma, events[0].latents
    assert seen is not None
    start = seen.double() * math.hypot(1, sigma)
    exact = MEAN + STD * (start - MEAN) / math.hypot(STD, sigma)
    return float((latents.double() - exact).norm() / exact.norm())
