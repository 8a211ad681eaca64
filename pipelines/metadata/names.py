"""Samplers and schedules as other programs call them, in our words."""

from models.errors import RequestError
from pipelines.samplers import SAMPLERS, canonical_sampler, canonical_schedule

# As ComfyUI and Fooocus call them, after k-diffusion's functions, and InvokeAI, after diffusers' classes.
SAMPLER_NAMES = {
    "euler_ancestral": "Euler a",
    "euler_a": "Euler a",
    "dpm_2": "DPM2",
    "kdpm_2": "DPM2",
    "dpmpp_2m": "DPM++ 2M",
    "dpmpp_2m_sde": "DPM++ 2M SDE",
    "dpmpp_2m_sde_gpu": "DPM++ 2M SDE",
    "dpmpp_sde": "DPM++ SDE",
    "dpmpp_sde_gpu": "DPM++ SDE",
    "uni_pc": "UniPC",
    "pndm": "PLMS",
}
# All are even steps in the time of training; they differ in where the first and the last one lie.
NEAR_UNIFORM = ("normal", "simple", "sgm_uniform", "ddim_uniform")


def sampler_options(sampler: object, schedule: object = "Automatic") -> tuple[dict[str, str], dict[str, str]]:
    """The options `sampler` and `schedule` as far as there is a like of them here; what is not, in words."""
    name, wanted = str(sampler)[:100], str(schedule or "Automatic")[:100]
    try:
        ours = canonical_sampler(SAMPLER_NAMES.get(name.casefold(), name))
    except RequestError:
        return {}, {"Sampler": name}
    near = wanted.casefold().replace(" ", "_") in NEAR_UNIFORM
    try:
        takes = "Uniform" if near else canonical_schedule(wanted)
    except RequestError:
        return {"sampler": ours, "schedule": "Automatic"}, {"Schedule": wanted}
    left = {"Schedule": f"{wanted}, taken as Uniform"} if near and wanted.casefold() != "normal" else {}
    if takes in SAMPLERS[ours].schedules:
        return {"sampler": ours, "schedule": takes}, left
    # What a sampler without a choice always does needs no word.
    left = left if takes == SAMPLERS[ours].automatic else {"Schedule": wanted}
    return {"sampler": ours, "schedule": "Automatic"}, left
