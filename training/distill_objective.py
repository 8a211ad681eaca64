"""What a student learns of its teacher: to take in one step what the teacher takes in several guided ones.

Progressive distillation (Salimans & Ho 2202.00512) teaches one step for two, of a guided teacher (Meng et al.
2210.03142); here the steps of the student are windows of the trajectory from noise to picture, all learned at
once, each from real latents with noise on them (PeRFlow, Yan et al. 2405.07510).

A student for a sampler that adds noise after each step, which covers its errors, learns longer windows, which
overlap: down to where that sampler comes before it adds noise.
"""

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from models.denoiser import Denoiser
from models.text_encoder import TextStates
from pipelines.guidance import guided_epsilon
from pipelines.samplers import SAMPLERS, make_scheduler

StudentSampler = Literal["Euler", "Euler a"]


@dataclass(frozen=True, slots=True)
class Window:
    """One step of the student, between two times sigma / (1 + sigma); the teacher takes `substeps`."""

    start: float
    end: float
    substeps: int


def student_windows(denoiser: Denoiser, sampler: StudentSampler, steps: int, substeps: int) -> list[Window]:
    """The steps that a sampler takes, each divided for the teacher.

    Euler ends a step at the level where the next begins; its ancestral form ends one from s to s' at s'^2 / s
    and adds noise up to s' (k-diffusion's get_ancestral_step, eta 1). From a level to the next the teacher
    takes `substeps`, and as many more as a window is longer than that.
    """
    levels = make_scheduler(SAMPLERS[sampler], "Automatic", denoiser, steps).sigmas.tolist()
    found = []
    for level, following in itertools.pairwise(levels):
        down = following**2 / level if sampler == "Euler a" else following
        start, end, begun = (sigma / (1 + sigma) for sigma in (level, down, following))
        found.append(Window(start, end, math.ceil(substeps * (start - end) / (start - begun) - 1e-6)))
    return found


def velocity(epsilon: Callable[[Tensor, float], Tensor], z: Tensor, time: float) -> Tensor:
    """dz/dt = e - z_0 at z = (1 - t) z_0 + t e, (B, C, h, w): so any model is a flow, by its epsilon.

    `epsilon` takes variance-preserving latents and their noise level, as models/denoiser.py does.
    """
    x = z / math.hypot(1 - time, time)
    return (epsilon(x, time / (1 - time)) - z) / (1 - time)


class Distillation(nn.Module):
    """E |z + (t' - t) v(z, t) - z'|^2 over windows from t to t', with z' where the teacher takes z.

    The teacher is guided with `guidance_scale`; the student v has no guidance and takes one step in each.
    """

    def __init__(
        self,
        student: Denoiser,
        teacher: Denoiser,
        windows: Sequence[Window],
        guidance_scale: float,
    ) -> None:
        super().__init__()
        self.student, self.teacher, self.windows = student, teacher, windows
        self.unet, self.teacher_unet = student.unet, teacher.unet
        self.guidance_scale = guidance_scale

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
        number: int,
        latents: Tensor,
        noise: Tensor,
        states: TextStates,
        nothing: TextStates,
        shown: Tensor | None = None,
    ) -> Tensor:
        """The mean square error of each sample's arrival at the end of one window, (B,)."""
        window = self.windows[number]
        start, end = window.start, window.end
        z = (1 - start) * latents + start * noise  # (B, C, h, w)
        target = self.taken(z, window, states, nothing, shown)

        def epsilon(x: Tensor, sigma: float) -> Tensor:
            return self.student.epsilon(x, sigma, states, shown)

        arrived = z + (end - start) * velocity(epsilon, z, start)
        return (arrived - target).square().flatten(1).mean(1)

    @torch.no_grad()
    def taken(
        self,
        z: Tensor,
        window: Window,
        states: TextStates,
        nothing: TextStates,
        shown: Tensor | None = None,
    ) -> Tensor:
        """Where the guided teacher takes z (B, C, h, w) from the start of a window to its end.

        By the two-step method of Adams and Bashforth, of second order at one call a step, which does not ask
        for the velocity at the end, where there may be no noise left.
        """
        unsaid = nothing.select([0] * len(z))

        def epsilon(x: Tensor, sigma: float) -> Tensor:
            return guided_epsilon(self.teacher, x, sigma, states, unsaid, self.guidance_scale, shown)

        step = (window.end - window.start) / window.substeps
        before = None
        for number in range(window.substeps):
            now = velocity(epsilon, z, window.start + number * step)
            z = z + step * (now if before is None else 1.5 * now - 0.5 * before)
            before = now
        return z
