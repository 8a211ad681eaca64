"""From noise to latents: a scheduler of diffusers walks, a denoiser says where to, a viewer sees each step.

Inference mode decorates the functions that compute: around a yield it would leak to the caller.
"""

from collections.abc import Callable, Generator
from typing import Any

import torch
from torch import Tensor

from models.denoiser import Denoiser
from models.errors import StudioError
from models.text_encoder import TextStates
from pipelines.control import Control
from pipelines.guidance import guided_epsilon
from pipelines.noise import DrawFrom, Noise
from pipelines.prompt.conditions import Condition, Conditions
from pipelines.result import StepEvent
from pipelines.samplers import noise_level
from pipelines.start import Start
from pipelines.state import State


def sample_latents(
    denoiser: Denoiser,
    scheduler: Any,
    noise: Noise,
    shape: tuple[int, int, int],
    cond: Conditions,
    uncond: Conditions,
    guidance_scale: float = 1.0,
    first_image: int = 0,
    dtype: torch.dtype = torch.float32,
    condition: Tensor | None = None,
    start: Start | None = None,
    state: State | None = None,
    steps_before: int = 0,
    total_steps: int | None = None,
    guidance_interval: tuple[float, float] = (0.0, 1.0),
    steps_asked: int | None = None,
    control: Control | None = None,
) -> Generator[StepEvent, None, Tensor]:
    """Draw a batch of latents of shape (C, h, w) each, yielding once a step; returns them, (B, C, h, w).

    `scheduler` is a diffusers scheduler already set to its steps, predicting epsilon.
    cond and uncond are the states of one prompt for each image, (B, T, D), or of one that they share,
    (1, T, D), as they share the `condition` (1, 1 + C, h, w) of a model with an image condition; or they are
    functions that give the states of each step, which both calls of a sampler with two calls a step get.
    `start` is the picture to start from. With a `state` they are drawn from there, the scheduler being
    without the `steps_before` it, or with them where the state tells of them. Events count from these, of
    `total_steps`.
    Guidance acts where the share of the schedule that is over lies in [start, end), the `guidance_interval`;
    the schedule has `steps_asked` steps, of which the last are drawn that start from a picture or a state.
    Elsewhere the conditional prediction stands alone, at half the price (Kynkaanniemi et al. 2404.07724).
    `control` guides with pictures, in the steps that lie in the intervals of its ControlNets.
    """
    count = len(noise.seeds)
    cond_of, uncond_of = _by_step(cond, count), _by_step(uncond, count)
    device = uncond_of(1).device
    if condition is not None:
        condition = condition.to(device).expand(count, -1, -1, -1)  # (B, 1 + C, h, w)
    steps = scheduler.num_inference_steps
    total = total_steps or steps_before + steps
    drawn, calls_before = noise.draw(shape), 0  # (B, C, h, w)
    if state is not None:
        if state.is_of(scheduler, steps_before):
            calls_before = state.replay(scheduler, steps_before, drawn.to(device, dtype))
        x = state.sample(scheduler, calls_before).to(dtype)  # on the CPU first: not every device has float64
        x = x.to(device)
        for _ in range(steps_before):  # a stochastic sampler goes on with the noise that it would have had
            noise.draw(shape)
    elif start is not None:
        drawn = drawn.to(device, dtype)
        # A scheduler has its own scale of latents, and its way from there to variance-preserving ones.
        scale = scheduler.scale_model_input(drawn.new_ones(()), scheduler.timesteps[0])
        x = start.noised(drawn, noise_level(scheduler, 0)) / scale
    else:
        x = drawn.to(device, dtype) * float(scheduler.init_noise_sigma)
    if hasattr(scheduler, "noise_sampler"):
        scheduler.noise_sampler = _brownian_noise(scheduler, noise, x)
    calls = len(scheduler.timesteps)
    # A step is one call, two in Heun, DPM2 and DPM++ SDE (their last: one), two in the first of PLMS.
    ends = {call for call in range(calls) if (call + 1) % scheduler.order == 0 or call == calls - 1}
    if scheduler.order == 1 and calls > steps:
        ends.remove(0)
    asked = steps_asked or steps
    unasked = asked - steps - (0 if calls_before else steps_before)  # of the schedule, before what is counted
    guided_from, guided_to = guidance_interval
    step, sigma, sample, seen, denoised = steps_before, 0.0, x, x, x
    for call in range(calls_before, calls):
        level = noise_level(scheduler, call)
        model_input = scheduler.scale_model_input(x, scheduler.timesteps[call])
        read = step + 1 if start is None else step + 1 - steps_before  # a second pass has its own schedule
        given, without = cond_of(read), uncond_of(read)
        assert isinstance(without, TextStates)
        share_over = (unasked + step) / asked
        scale = guidance_scale if guided_from <= share_over < guided_to else 1.0
        if control is not None:
            denoiser = denoiser.run_by(control.during(share_over, (unasked + step + 1) / asked))
        epsilon = guided_epsilon(denoiser, model_input, level, given, without, scale, condition)
        if start is not None:
            epsilon = start.keep(epsilon, model_input, level)
        if call == calls_before or call - 1 in ends:  # a viewer is shown what the step's first call saw
            sigma, sample, seen = level, x, model_input
            denoised = model_input * (1 + level**2) ** 0.5 - level * epsilon
        x = _scheduler_step(scheduler, epsilon, call, x, noise)
        if call in ends:
            step += 1
            if not torch.isfinite(x).all():
                raise StudioError(
                    f"The model gave numbers that are not finite (NaN) in step {step} of {total}; "
                    "try a lower guidance scale, and if it stays, the model is damaged."
                )
            yield StepEvent(
                image_index=first_image,
                images=count,
                step=step,
                total=total,
                sigma=sigma,
                latents=seen,
                denoised=denoised,
                sample=sample,
            )
    return x if start is None else start.restore(x)


def _by_step(given: Conditions, count: int) -> Callable[[int], Condition]:
    if not isinstance(given, TextStates):
        return given
    states = given.select([0] * count) if len(given) == 1 else given
    return lambda step: states


@torch.inference_mode()
def _scheduler_step(scheduler: Any, epsilon: Tensor, call: int, x: Tensor, noise: Noise) -> Tensor:
    with DrawFrom(noise):
        output: Tensor = scheduler.step(epsilon, scheduler.timesteps[call], x, return_dict=False)[0]
    return output


def _brownian_noise(scheduler: Any, noise: Noise, x: Tensor) -> Callable[[Tensor, Tensor], Tensor]:
    """One Brownian path per image, on the CPU: its increments, scaled to unit variance, are the noise."""
    from diffusers.schedulers.scheduling_dpmsolver_sde import BrownianTreeNoiseSampler

    levels = scheduler.sigmas[scheduler.sigmas > 0]
    with DrawFrom(noise):  # the tree draws its end points now
        # A little wider than the levels, which come back rounded from their logarithms.
        tree = BrownianTreeNoiseSampler(
            x.float().cpu(), float(levels.min()) * 0.999, float(levels.max()) * 1.001, noise.seeds
        )
    return lambda level, following: tree(level, following).to(x.device, x.dtype)
