"""What stage 2 learns to predict: objectives of one form, E[weight(t) |unet(z_t, t, states) - target|^2].

Each is a deterministic function of its inputs; whoever trains draws the noise and the timesteps. A timestep
is the number the UNet is told, from 0 to 1000.
"""

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from models.denoiser import NUM_TRAIN_TIMESTEPS, Denoiser, PredictionType, UNetRunner, betas_from_config
from models.text_encoder import TextStates
from training.config import DiffusionModel


class Objective(nn.Module, ABC):
    """The regression that all three are; `betas` (1000,) float64 is the noise process, a flow has none."""

    prediction: PredictionType

    def __init__(self, unet: nn.Module, betas: Tensor | None = None) -> None:
        super().__init__()
        self.unet = unet
        self.betas = betas

    def forward(
        self,
        latents: Tensor,
        noise: Tensor,
        timestep: Tensor,
        states: TextStates,
        shown: Tensor | None = None,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The weighted mean loss on latents and noise (B, C, h, w) at timesteps (B,).

        `shown` (B, 1 + C, h, w) is an image condition.
        """
        return (self.weight(timestep) * self.errors(latents, noise, timestep, states, shown)).mean(), {}

    def errors(
        self,
        latents: Tensor,
        noise: Tensor,
        timestep: Tensor,
        states: TextStates,
        shown: Tensor | None = None,
    ) -> Tensor:
        """The mean square error of each sample's prediction, unweighted, (B,)."""
        z_t = self.noised(latents, noise, timestep)  # (B, C, h, w)
        if shown is not None:
            z_t = torch.cat([z_t, shown], dim=1)  # (B, C + 1 + C, h, w)
        output = UNetRunner(self.unet)(z_t, timestep, states)  # (B, C, h, w)
        return (output - self.target(latents, noise, timestep)).square().flatten(1).mean(1)

    def denoiser(self, unet: nn.Module) -> Denoiser:
        """What samples from a UNet that was trained on this objective."""
        return Denoiser(unet, self.prediction, self.betas)

    @abstractmethod
    def timesteps(self, uniform: Tensor) -> Tensor:
        """The timesteps (B,) that numbers uniform in [0, 1) stand for."""

    @abstractmethod
    def noised(self, latents: Tensor, noise: Tensor, timestep: Tensor) -> Tensor:
        """z_t, the latents at a timestep's noise level, (B, C, h, w)."""

    @abstractmethod
    def target(self, latents: Tensor, noise: Tensor, timestep: Tensor) -> Tensor:
        """What the UNet is to answer, (B, C, h, w)."""

    @abstractmethod
    def denoised(self, z_t: Tensor, output: Tensor, timestep: Tensor) -> Tensor:
        """The latents that the UNet's answer to z_t points at, (B, C, h, w)."""

    def weight(self, timestep: Tensor) -> Tensor:
        """What a sample's error counts, (B,)."""
        return torch.ones_like(timestep, dtype=torch.float32)


class Flow(Objective):
    """Rectified flow (Liu et al. 2209.03003) at logit-normal times (Esser et al. 2403.03206).

    A `shift` above 1 moves them to where there is more noise.
    """

    prediction = "flow"

    def __init__(self, unet: nn.Module, shift: float = 1.0) -> None:
        super().__init__(unet)
        self.shift = shift

    def timesteps(self, uniform: Tensor) -> Tensor:
        """1000 s t / (1 + (s - 1) t) with t = sigmoid(N(0, 1)), Esser et al. equations 19 and 23."""
        t: Tensor = torch.special.ndtri(uniform).sigmoid()
        return NUM_TRAIN_TIMESTEPS * self.shift * t / (1 + (self.shift - 1) * t)

    def noised(self, latents: Tensor, noise: Tensor, timestep: Tensor) -> Tensor:
        """z_t = (1 - t) z + t e, Esser et al. equation 13."""
        t = timestep.view(-1, 1, 1, 1) / NUM_TRAIN_TIMESTEPS
        return (1 - t) * latents + t * noise

    def target(self, latents: Tensor, noise: Tensor, timestep: Tensor) -> Tensor:
        """v = dz_t/dt = e - z."""
        return noise - latents

    def denoised(self, z_t: Tensor, output: Tensor, timestep: Tensor) -> Tensor:
        """z = z_t - t v."""
        return z_t - timestep.view(-1, 1, 1, 1) / NUM_TRAIN_TIMESTEPS * output


class VariancePreserving(Objective):
    """What epsilon and v share: the process of Ho et al. 2006.11239 at timesteps 0, 1, ..., 999.

    A `min_snr_gamma` above 0 weighs every timestep as a loss on z with weight min(SNR, gamma) would, where
    SNR = abar / (1 - abar) (Hang et al. 2303.09556, section 3.4).
    """

    signal: Tensor  # (1000,) sqrt(abar)
    spread: Tensor  # (1000,) sqrt(1 - abar)

    def __init__(self, unet: nn.Module, betas: Tensor, min_snr_gamma: float = 0.0) -> None:
        super().__init__(unet, betas)
        self.min_snr_gamma = min_snr_gamma
        abar = torch.cumprod(1 - betas, dim=0)
        # Rounded last: 1 - abar in float32 has lost its digits where there is almost no noise.
        self.register_buffer("signal", abar.sqrt().float(), persistent=False)
        self.register_buffer("spread", (1 - abar).sqrt().float(), persistent=False)

    def levels(self, timestep: Tensor) -> tuple[Tensor, Tensor]:
        """sqrt(abar) and sqrt(1 - abar) at timesteps (B,), each (B, 1, 1, 1)."""
        steps = timestep.long()
        return self.signal[steps].view(-1, 1, 1, 1), self.spread[steps].view(-1, 1, 1, 1)

    def timesteps(self, uniform: Tensor) -> Tensor:
        """Uniform in 0, 1, ..., 999."""
        return (NUM_TRAIN_TIMESTEPS * uniform).long()

    def noised(self, latents: Tensor, noise: Tensor, timestep: Tensor) -> Tensor:
        """z_t = sqrt(abar) z + sqrt(1 - abar) e, Ho et al. equation 4."""
        signal, spread = self.levels(timestep)
        return signal * latents + spread * noise

    def weight(self, timestep: Tensor) -> Tensor:
        """The min-SNR weights where they are asked for, else 1."""
        if not self.min_snr_gamma:
            return super().weight(timestep)
        signal, spread = self.levels(timestep)
        return self.min_snr((signal / spread).square().flatten())

    @abstractmethod
    def min_snr(self, snr: Tensor) -> Tensor:
        """The weight at signal-to-noise ratios (B,), of power."""


class Epsilon(VariancePreserving):
    """Prediction of the noise (Ho et al. 2006.11239, equation 14; Rombach et al. 2112.10752, equation 3)."""

    prediction = "epsilon"

    def target(self, latents: Tensor, noise: Tensor, timestep: Tensor) -> Tensor:
        """The noise e."""
        return noise

    def denoised(self, z_t: Tensor, output: Tensor, timestep: Tensor) -> Tensor:
        """z = (z_t - sqrt(1 - abar) e) / sqrt(abar)."""
        signal, spread = self.levels(timestep)
        return (z_t - spread * output) / signal

    def min_snr(self, snr: Tensor) -> Tensor:
        """min(SNR, gamma) / SNR, as |e - e^|^2 = SNR |z - z^|^2."""
        return snr.clamp(max=self.min_snr_gamma) / snr


class VPrediction(VariancePreserving):
    """Prediction of v, noise and latents in one (Salimans & Ho 2202.00512, section 4)."""

    prediction = "v_prediction"

    def target(self, latents: Tensor, noise: Tensor, timestep: Tensor) -> Tensor:
        """v = sqrt(abar) e - sqrt(1 - abar) z."""
        signal, spread = self.levels(timestep)
        return signal * noise - spread * latents

    def denoised(self, z_t: Tensor, output: Tensor, timestep: Tensor) -> Tensor:
        """z = sqrt(abar) z_t - sqrt(1 - abar) v."""
        signal, spread = self.levels(timestep)
        return signal * z_t - spread * output

    def min_snr(self, snr: Tensor) -> Tensor:
        """min(SNR, gamma) / (SNR + 1), as |v - v^|^2 = (SNR + 1) |z - z^|^2."""
        return snr.clamp(max=self.min_snr_gamma) / (snr + 1)


def build_objective(unet: nn.Module, model: DiffusionModel, betas: Tensor | None = None) -> Objective:
    """The objective that a configuration asks for, around a UNet.

    `betas` (T,) float64 are a noise process other than the configuration's.
    """
    if model.prediction in ("", "flow"):
        return Flow(unet, model.timestep_shift)
    if betas is None:
        betas = betas_from_config(
            {"beta_schedule": "scaled_linear", "beta_start": model.beta_start, "beta_end": model.beta_end}
        )
    kind = Epsilon if model.prediction == "epsilon" else VPrediction
    return kind(unet, betas, model.min_snr_gamma)
