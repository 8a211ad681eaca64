"""What a student learns of its teacher: to take in one step what the teacher takes in several guided ones.

Progressive distillation (Salimans & Ho 2202.00512) teaches one step for two, of a guided teacher (Meng et al.
2210.03142); here the steps of the student are windows of the trajectory from noise to picture, all learned at
once, each from real latents with noise on them (PeRFlow, Yan et al. 2405.07510).
"""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from models.denoiser import Denoiser
from models.text_encoder import TextStates
from pipelines.guidance import guided_epsilon
from pipelines.samplers import SAMPLERS, make_scheduler

STUDENT_SAMPLER = "Euler"


def window_times(denoiser: Denoiser, steps: int) -> list[float]:
    """The times that the student's sampler visits, falling to 0; (steps + 1,), sigma / (1 + sigma)."""
    scheduler = make_scheduler(SAMPLERS[STUDENT_SAMPLER], "Automatic", denoiser, steps)
    return [sigma / (1 + sigma) for sigma in scheduler.sigmas.tolist()]


def velocity(epsilon: Callable[[Tensor, float], Tensor], z: Tensor, time: float) -> Tensor:
    """dz/dt = e - z_0 at z = (1 - t) z_0 + t e, (B, C, h, w): so any model is a flow, by its epsilon.

    `epsilon` takes variance-preserving latents and their noise level, as models/denoiser.py does.
    """
    x = z / math.hypot(1 - time, time)
    return (epsilon(x, time / (1 - time)) - z) / (1 - time)


class Distillation(nn.Module):
    """E |z + (t' - t) v(z, t) - z'|^2 over windows from t to t', with z' where the teacher takes z.

    `times` are the ends of the windows, falling to 0. The teacher takes `substeps` steps in each, guided with
    `guidance_scale`; the student v has no guidance and takes one, as the Euler sampler does.
    """

    def __init__(
        self,
        student: Denoiser,
        teacher: Denoiser,
        times: Sequence[float],
        guidance_scale: float,
        substeps: int,
    ) -> None:
        super().__init__()
        self.student, self.teacher, self.times = student, teacher, times
        self.unet, self.teacher_unet = student.unet, teacher.unet
        self.guidance_scale, self.substeps = guidance_scale, substeps

    def forward(
        self,
        latents: Tensor,
        noise: Tensor,
        window: Tensor,
        states: TextStates,
        nothing: TextStates,
        shown: Tensor | None = None,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The mean loss on latents and noise (B, C, h, w), each in its window (B,), counted from 0.

        `nothing` are the states of no words, (1, T, D), and `shown` (B, 1 + C, h, w) is an image condition.
        """
        errors = []
        for number in sorted(set(window.tolist())):
            rows = (window == number).nonzero().flatten()
            seen = None if shown is None else shown[rows]
            words = states.select(rows)
            errors.append(self.errors(number, latents[rows], noise[rows], words, nothing, seen))
        return torch.cat(errors).mean(), {}

    def errors(
        self,
        window: int,
        latents: Tensor,
        noise: Tensor,
        states: TextStates,
        nothing: TextStates,
        shown: Tensor | None = None,
    ) -> Tensor:
        """The mean square error of each sample's arrival at the end of one window, (B,)."""
        start, end = self.times[window], self.times[window + 1]
        z = (1 - start) * latents + start * noise  # (B, C, h, w)
        target = self.taken(z, start, end, states, nothing, shown)

        def epsilon(x: Tensor, sigma: float) -> Tensor:
            return self.student.epsilon(x, sigma, states, shown)

        arrived = z + (end - start) * velocity(epsilon, z, start)
        return (arrived - target).square().flatten(1).mean(1)

    @torch.no_grad()
    def taken(
        self,
        z: Tensor,
        start: float,
        end: float,
        states: TextStates,
        nothing: TextStates,
        shown: Tensor | None = None,
    ) -> Tensor:
        """Where the guided teacher takes z (B, C, h, w) from one time to another.

        By the two-step method of Adams and Bashforth, of second order at one call a step, which does not ask
        for the velocity at the end, where there may be no noise left.
        """
        unsaid = nothing.select([0] * len(z))

        def epsilon(x: Tensor, sigma: float) -> Tensor:
            return guided_epsilon(self.teacher, x, sigma, states, unsaid, self.guidance_scale, shown)

        step = (end - start) / self.substeps
        before = None
        for number in range(self.substeps):
            now = velocity(epsilon, z, start + number * step)
            z = z + step * (now if before is None else 1.5 * now - 0.5 * before)
            before = now
        return z
