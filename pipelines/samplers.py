"""The samplers and schedules a request may name, and the diffusers scheduler behind each.

A table, not classes: diffusers' schedulers do the arithmetic, on variance-preserving latents and epsilon,
which models/denoiser.py makes of every model. Importing this file imports neither torch nor diffusers,
so a wrong request is answered at once.
"""

import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from models.errors import RequestError

# Each word for a schedule and the diffusers setting that makes it; Automatic is the sampler's own choice.
SCHEDULE_SETTINGS: Mapping[str, Mapping[str, bool]] = MappingProxyType(
    {
        "Automatic": {},
        "Uniform": {},
        "Karras": {"use_karras_sigmas": True},
        "Exponential": {"use_exponential_sigmas": True},
        "Beta": {"use_beta_sigmas": True},
    }
)
SCHEDULES = tuple(SCHEDULE_SETTINGS)
_AUTOMATIC_ONLY = ("Automatic",)


@dataclass(frozen=True, slots=True)
class Sampler:
    """One row of the table: a diffusers scheduler class by name, its settings and the schedules it takes."""

    name: str
    scheduler: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    schedules: tuple[str, ...] = SCHEDULES
    stochastic: bool = False
    distilled_only: bool = False


_ROWS = (
    Sampler("Euler", "EulerDiscreteScheduler"),
    Sampler("Euler a", "EulerAncestralDiscreteScheduler", schedules=_AUTOMATIC_ONLY, stochastic=True),
    Sampler("Heun", "HeunDiscreteScheduler"),
    Sampler("LMS", "LMSDiscreteScheduler"),
    Sampler("DPM2", "KDPM2DiscreteScheduler"),
    Sampler("DPM++ 2M", "DPMSolverMultistepScheduler", {"algorithm_type": "dpmsolver++"}),
    Sampler(
        "DPM++ 2M SDE", "DPMSolverMultistepScheduler", {"algorithm_type": "sde-dpmsolver++"}, stochastic=True
    ),
    Sampler("DPM++ SDE", "DPMSolverSDEScheduler", stochastic=True),
    Sampler("UniPC", "UniPCMultistepScheduler"),
    Sampler("DEIS", "DEISMultistepScheduler"),
    Sampler("DDIM", "DDIMScheduler", {"clip_sample": False}, _AUTOMATIC_ONLY),
    Sampler("DDPM", "DDPMScheduler", {"clip_sample": False}, _AUTOMATIC_ONLY, stochastic=True),
    Sampler("PLMS", "PNDMScheduler", {"skip_prk_steps": True}, _AUTOMATIC_ONLY),
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
    """Split the older fused spelling, "DPM++ 2M Karras", into sampler and schedule (None if it has none)."""
    for schedule in SCHEDULES[1:]:
        head = name.strip()[: -len(schedule)]
        if head.endswith(" ") and name.strip()[len(head) :].casefold() == schedule.casefold():
            return head.strip(), schedule
    return name.strip(), None
