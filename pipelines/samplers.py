"""The samplers and schedules a request may name, and the diffusers scheduler behind each.

A table, not classes: diffusers' schedulers do the arithmetic, on variance-preserving latents and epsilon,
which models/denoiser.py makes of every model. The noise levels are chosen here, and a scheduler is given a
process of exactly these levels: so the same schedule means the same levels for each sampler, and none is
rounded to a timestep. Importing this file imports neither torch nor diffusers, so a wrong request is
answered at once.
"""

import difflib
import importlib
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from models.errors import RequestError

if TYPE_CHECKING:
    import torch

    from models.denoiser import Denoiser

SCHEDULES = ("Automatic", "Uniform", "Karras", "Exponential", "Beta")
FOREIGN_SCHEDULES = ("SGM Uniform", "Polyexponential", "KL Optimal", "Align Your Steps", "Simple", "Normal")
_AUTOMATIC_ONLY = ("Automatic",)

# A flow ends in pure noise. Starting a hair before it changes the picture by under 0.3 percent, and Heun and
# PLMS, whose first step would reach over most of an infinite range, gain a digit at 10 steps.
FLOW_SIGMA_MAX = 100.0
FLOW_SIGMA_MIN = 0.03  # where Karras and Exponential end on a flow, about as on Stable Diffusion
DEIS_SIGMA_LAST = 0.001  # it works in log sigma, so it cannot step to 0


@dataclass(frozen=True, slots=True)
class Sampler:
    """One row of the table: a diffusers scheduler class by name, its settings and the schedules it takes.

    A `multistep` one without noise of its own goes on from the predictions of the steps before.
    `automatic` is what the schedule Automatic means on an epsilon or v_prediction model; on a flow it means
    Uniform for every sampler. Both chosen by the error on an analytic Gaussian.
    """

    name: str
    scheduler: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    schedules: tuple[str, ...] = SCHEDULES
    automatic: str = "Uniform"
    stochastic: bool = False
    multistep: bool = False
    distilled_only: bool = False


_ROWS = (
    Sampler("Euler", "EulerDiscreteScheduler"),
    Sampler("Euler a", "EulerAncestralDiscreteScheduler", schedules=_AUTOMATIC_ONLY, stochastic=True),
    Sampler("Heun", "HeunDiscreteScheduler"),
    Sampler("LMS", "LMSDiscreteScheduler", multistep=True),
    Sampler("DPM2", "KDPM2DiscreteScheduler", automatic="Karras"),
    Sampler("DPM++ 2M", "DPMSolverMultistepScheduler", automatic="Karras", multistep=True),
    Sampler(
        "DPM++ 2M SDE",
        "DPMSolverMultistepScheduler",
        {"algorithm_type": "sde-dpmsolver++"},
        automatic="Exponential",
        stochastic=True,
    ),
    Sampler("DPM++ SDE", "DPMSolverSDEScheduler", automatic="Karras", stochastic=True),
    Sampler("UniPC", "UniPCMultistepScheduler", automatic="Karras", multistep=True),
    Sampler("DEIS", "DEISMultistepScheduler", automatic="Karras", multistep=True),
    Sampler("DDIM", "DDIMScheduler", {"clip_sample": False}, _AUTOMATIC_ONLY),
    Sampler("DDPM", "DDPMScheduler", {"clip_sample": False}, _AUTOMATIC_ONLY, stochastic=True),
    Sampler(
        "PLMS",
        "PNDMScheduler",
        {"skip_prk_steps": True, "set_alpha_to_one": True},
        _AUTOMATIC_ONLY,
        multistep=True,
    ),
    Sampler("LCM", "LCMScheduler", {}, _AUTOMATIC_ONLY, stochastic=True, distilled_only=True),
)
SAMPLERS: Mapping[str, Sampler] = MappingProxyType({row.name: row for row in _ROWS})


def sampler_names(distilled: bool = False) -> list[str]:
    """Names to offer for a model; LCM only for one distilled for it, as it draws fog with any other."""
    return [row.name for row in _ROWS if distilled or not row.distilled_only]


def canonical_sampler(name: str) -> str:
    """The table's spelling of a sampler's name, matched without case; RequestError names the nearest."""
    return _canonical(name, tuple(SAMPLERS), "sampler")


def canonical_schedule(name: str) -> str:
    """The table's spelling of a schedule's name, matched without case; RequestError names the nearest."""
    return _canonical(name, SCHEDULES, "schedule")


def _canonical(name: str, known: tuple[str, ...], what: str) -> str:
    by_fold = {entry.casefold(): entry for entry in known}
    folded = re.sub(r"\s+", " ", name[:100].strip()).casefold()
    if folded in by_fold:
        return by_fold[folded]
    near = difflib.get_close_matches(folded, by_fold, n=1, cutoff=0.5)
    hint = f'did you mean "{by_fold[near[0]]}"? ' if near else ""
    raise RequestError(f'Unknown {what} "{name[:60]}": {hint}There is {", ".join(known)}.')


def split_fused_name(name: str) -> tuple[str, str | None]:
    """Split the older fused spelling, "DPM++ 2M Karras", into sampler and schedule (None if it has none).

    The schedules that only AUTOMATIC1111 has are split off too, also spelled without spaces.
    """
    name = name.strip()
    for schedule in (*FOREIGN_SCHEDULES, *SCHEDULES[1:]):  # SGM Uniform before Uniform
        for spelling in (schedule, schedule.replace(" ", "")):
            head = name[: -len(spelling)]
            if head.endswith(" ") and name[len(head) :].casefold() == spelling.casefold():
                return head.strip(), schedule
    return name, None


def make_scheduler(sampler: Sampler, schedule: str, denoiser: "Denoiser", steps: int, skip: int = 0) -> Any:
    """A diffusers scheduler of this sampler over this model's noise process, set to `steps` steps.

    Without the first `skip` of them: a whole run from a lower noise level, which every sampler can start.
    """
    import torch

    settings = dict(sampler.settings)
    if sampler.distilled_only:
        alphas_cumprod = denoiser.alphas_cumprod  # a consistency model knows its own levels
    else:
        flow = denoiser.prediction_type == "flow"
        if schedule == "Automatic":
            schedule = "Uniform" if flow else sampler.automatic
        sigmas = noise_levels(schedule, denoiser.alphas_cumprod, steps, flow)[skip:]
        alphas_cumprod = 1 / (1 + sigmas.flip(0) ** 2)
        settings["timestep_spacing"] = "trailing"  # steps - 1, ..., 1, 0: every level of the process
    previous = torch.cat([alphas_cumprod.new_ones(1), alphas_cumprod[:-1]])
    scheduler = getattr(importlib.import_module("diffusers"), sampler.scheduler)(
        num_train_timesteps=len(alphas_cumprod),
        trained_betas=(1 - alphas_cumprod / previous).tolist(),
        **settings,
    )
    # Its own product of float32 betas loses the last digits where almost no noise is left.
    scheduler.alphas_cumprod = alphas_cumprod
    if sampler.distilled_only:
        scheduler.set_timesteps(steps)
        scheduler.timesteps, scheduler.num_inference_steps = scheduler.timesteps[skip:], steps - skip
    else:
        scheduler.set_timesteps(steps - skip)
    if sampler.name == "DEIS":
        scheduler.sigmas[-1] = DEIS_SIGMA_LAST
    if hasattr(scheduler, "set_begin_index"):
        scheduler.set_begin_index(0)
    return scheduler


def noise_levels(schedule: str, alphas_cumprod: "torch.Tensor", steps: int, flow: bool) -> "torch.Tensor":
    """The noise levels sigma that a schedule visits before it ends at 0; (steps,) float64, falling.

    Uniform and Beta are spaced in the time of training, over the whole process (the last level of a flow is
    1 / steps of the way, since its paths are nearly straight from there); Karras (2206.00364 eq. 5, rho 7)
    and Exponential in noise. Beta is 2407.12173, in timesteps as AUTOMATIC1111 has it.
    """
    import torch

    log_sigmas = ((1 - alphas_cumprod) / alphas_cumprod).log() / 2
    sigma_min, sigma_max = float(log_sigmas[0].exp()), float(log_sigmas[-1].exp())
    if flow:
        sigma_min, sigma_max = FLOW_SIGMA_MIN, FLOW_SIGMA_MAX
    falling = torch.linspace(1, 0, steps, dtype=torch.float64)
    if schedule == "Karras":
        root_min, root_max = math.pow(sigma_min, 1 / 7), math.pow(sigma_max, 1 / 7)
        return torch.pow(root_min + falling * (root_max - root_min), 7)
    if schedule == "Exponential":
        return sigma_min * torch.exp(falling * math.log(sigma_max / sigma_min))
    if schedule == "Beta":
        import scipy.stats

        falling = torch.from_numpy(scipy.stats.beta.ppf(falling.numpy(), 0.6, 0.6))
    if flow:
        time_min, time_max = sigma_min / (1 + sigma_min), sigma_max / (1 + sigma_max)
        times = time_min + falling * (time_max - time_min)
        if schedule == "Uniform":
            times = torch.arange(steps, 0, -1, dtype=torch.float64) * time_max / steps
        return times / (1 - times)
    times = falling * (len(log_sigmas) - 1)
    low = times.floor().long().clamp(max=len(log_sigmas) - 2)
    return torch.lerp(log_sigmas[low], log_sigmas[low + 1], times - low).exp()


def noise_level(scheduler: Any, call: int) -> float:
    """Noise to signal of the latents that the scheduler's model call number `call` is to be made on."""
    if not getattr(scheduler, "state_in_first_order", True):
        if hasattr(scheduler, "sigmas_interpol"):  # DPM2 calls its second time halfway between two levels
            return float(scheduler.sigmas_interpol[call])
        if hasattr(scheduler, "mid_point_sigma"):  # as does DPM++ SDE
            return float(scheduler.mid_point_sigma)
    if hasattr(scheduler, "sigmas"):
        return float(scheduler.sigmas[call])
    abar = float(scheduler.alphas_cumprod[scheduler.timesteps[call]])
    return math.sqrt((1 - abar) / abar)
