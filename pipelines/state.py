"""A drawing stopped before a step, in a form that every sampler can go on from."""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from pipelines.request import StepEvent
from pipelines.samplers import noise_level

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, slots=True, eq=False)
class State:
    """Clean latents and noise (B, C, h, w), and the level they are mixed at: x = denoised + sigma epsilon.

    In float64 on the CPU: so the float32 latents of a sampler come back from them to the bit.
    """

    denoised: "Tensor"
    epsilon: "Tensor"
    sigma: float

    @classmethod
    def before(cls, event: StepEvent) -> Self:
        """The state that a step began with."""
        assert event.latents is not None
        assert event.denoised is not None
        assert event.sample is not None
        noisy = event.sample.double().cpu()
        if event.sample is event.latents:  # a sampler of variance-preserving latents
            noisy = noisy * math.hypot(1, event.sigma)
        denoised = event.denoised.double().cpu()
        return cls(denoised, (noisy - denoised) / event.sigma, event.sigma)

    def steps_before(self, scheduler: Any) -> int:
        """How many steps a sampler, set to all of its steps, has behind it at this noise level."""
        abar = scheduler.alphas_cumprod
        steps = scheduler.num_inference_steps
        # Ours walk every level of their process; a consistency model some levels of its own.
        abar = abar.flip(0) if len(abar) == steps else abar[scheduler.timesteps]
        log_sigmas = ((1 - abar) / abar).log() / 2  # (steps,)
        return int((log_sigmas - math.log(self.sigma)).abs().argmin())

    def sample(self, scheduler: Any) -> "Tensor":
        """The latents (B, C, h, w), float64, that a sampler begins with: at its own first level."""
        level = noise_level(scheduler, 0)
        noisy = self.denoised + level * self.epsilon
        unit = noisy.new_ones(())
        scaled = scheduler.scale_model_input(unit, scheduler.timesteps[0]) is not unit
        return noisy if scaled else noisy / math.hypot(1, level)
