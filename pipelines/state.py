"""A drawing stopped before a step, in a form that every sampler can go on from."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from pipelines.result import StepEvent
from pipelines.samplers import noise_level

if TYPE_CHECKING:
    from torch import Tensor


LEVELS_DIFFER = 1e-4  # by more than this share, two noise levels are not the same one


@dataclass(frozen=True, slots=True, eq=False)
class State:
    """Clean latents and noise (B, C, h, w), and the level they are mixed at: x = denoised + sigma epsilon.

    In float64 on the CPU: so the float32 latents of a sampler come back from them to the bit. `earlier` are
    the states of the steps before, the oldest first: what a multistep sampler goes by.
    """

    denoised: "Tensor"
    epsilon: "Tensor"
    sigma: float
    earlier: "tuple[State, ...]" = ()

    @classmethod
    def before(cls, event: StepEvent, earlier: Sequence[StepEvent] = ()) -> Self:
        """The state that a step began with, after the `earlier` ones."""
        assert event.latents is not None
        assert event.denoised is not None
        assert event.sample is not None
        noisy = event.sample.double().cpu()
        if event.sample is event.latents:  # a sampler of variance-preserving latents
            noisy = noisy * math.hypot(1, event.sigma)
        denoised = event.denoised.double().cpu()
        before = tuple(cls.before(one) for one in earlier)
        return cls(denoised, (noisy - denoised) / event.sigma, event.sigma, before)

    def steps_before(self, scheduler: Any) -> int:
        """How many steps a sampler, set to all of its steps, has behind it at this noise level."""
        abar = scheduler.alphas_cumprod
        steps = scheduler.num_inference_steps
        # Ours walk every level of their process; a consistency model some levels of its own.
        abar = abar.flip(0) if len(abar) == steps else abar[scheduler.timesteps]
        log_sigmas = ((1 - abar) / abar).log() / 2  # (steps,)
        return int((log_sigmas - math.log(self.sigma)).abs().argmin())

    def is_of(self, scheduler: Any, steps: int) -> bool:
        """Whether these levels, the earlier ones too, are a sampler's own with `steps` steps behind it."""
        first = steps - len(self.earlier)
        if first < 0 or not self.earlier:
            return False
        return all(
            math.isclose(state.sigma, noise_level(scheduler, _calls(scheduler, step)), rel_tol=LEVELS_DIFFER)
            for step, state in enumerate((*self.earlier, self), first)
        )

    def replay(self, scheduler: Any, steps: int, like: "Tensor") -> int:
        """Give a multistep sampler what it would remember of the earlier steps, of the type of `like`.

        How many calls of the model it then has behind it. For a sampler that this state `is_of`.
        """
        first = steps - len(self.earlier)
        noises = [state.epsilon.to(like.dtype).to(like.device) for state in self.earlier]
        if hasattr(scheduler, "ets"):  # PLMS, whose first step makes two calls and keeps the first
            scheduler.ets, scheduler.counter = noises, _calls(scheduler, steps)
            return _calls(scheduler, steps)
        scheduler.set_begin_index(first)
        for call, (state, epsilon) in enumerate(zip(self.earlier, noises, strict=True), first):
            x = state.sample(scheduler, call).to(like.dtype).to(like.device)
            scheduler.step(epsilon, scheduler.timesteps[call], x, return_dict=False)
        return steps

    def sample(self, scheduler: Any, call: int = 0) -> "Tensor":
        """The latents (B, C, h, w), float64, that a sampler begins a call with: at its own level."""
        level = noise_level(scheduler, call)
        noisy = self.denoised + level * self.epsilon
        unit = noisy.new_ones(())
        scaled = scheduler.scale_model_input(unit, scheduler.timesteps[call]) is not unit
        return noisy if scaled else noisy / math.hypot(1, level)


def _calls(scheduler: Any, steps: int) -> int:
    """How many calls of the model a sampler has behind it after its first steps."""
    return steps + (steps > 0 and len(scheduler.timesteps) > scheduler.num_inference_steps)
