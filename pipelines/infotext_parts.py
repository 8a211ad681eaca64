"""What AUTOMATIC1111's settings text says of variations, input pictures, masks and second passes."""

import re
from collections.abc import Mapping
from typing import Any

from pipelines.request import GenerationRequest
from pipelines.request_control import ControlInput
from pipelines.request_parts import MAX_SCALE, UPSCALERS

NUMBER = re.compile(r"[0-9]{1,5}(\.[0-9]{1,20})?(e-?[0-9]{1,3})?")
INTERVAL = {"Guidance start": "guidance_start", "Guidance end": "guidance_end"}  # names of ours
# What becomes an option, and under which name.
PARTS_OPTIONS = {
    "Variation seed": "variation_seed",
    "Variation seed strength": "variation_strength",
    "Tiling": "tiling",
    **INTERVAL,
    "Hires upscale": "second_pass",
    "Hires steps": "second_pass",
    "Hires upscaler": "second_pass",
    "Denoising strength": "second_pass",
}


def number_text(value: float) -> str:
    """A number as it is read back, whole ones without a point."""
    return str(int(value) if value.is_integer() else value)


def parts_settings(request: GenerationRequest) -> dict[str, Any]:
    """The settings that a plain picture from words does not have, by AUTOMATIC1111's names where it has one.

    Denoising steps is ours: how many are done, round(strength * steps), which other programs count otherwise.
    """
    settings: dict[str, Any] = {}
    image, second = request.image, request.second_pass
    if request.variation_strength:
        settings["Variation seed"] = request.variation_seed
        settings["Variation seed strength"] = number_text(request.variation_strength)
    drawn_over = image or second
    if drawn_over is not None:
        settings["Denoising strength"] = number_text(drawn_over.strength)
        settings["Denoising steps"] = drawn_over.steps_done(request.steps)
    if image is not None:
        settings["Init image hash"] = image.picture[:10]
    if request.tiling:
        settings["Tiling"] = "True"
    if request.guidance_start > 0:
        settings["Guidance start"] = number_text(request.guidance_start)
    if request.guidance_end < 1:
        settings["Guidance end"] = number_text(request.guidance_end)
    if second is not None:
        settings["Hires upscale"] = number_text(second.scale)
        settings["Hires steps"] = second.steps
        settings["Hires upscaler"] = second.upscaler
        settings["Hires strength"] = number_text(second.strength) if image is not None else None
    if image is not None and image.paints_a_part:
        settings["Mask blur"] = image.mask_blur
        settings["Inpaint area"] = "Only masked" if image.only_masked else None
        settings["Masked area padding"] = image.mask_padding if image.only_masked else None
        settings["Masked content"] = image.fill if image.fill != "original" else None
        settings["Extended by"] = "x".join(map(str, image.extend)) if any(image.extend) else None
    settings |= {f"ControlNet {index}": _control_text(one) for index, one in enumerate(request.controls)}
    return {key: value for key, value in settings.items() if value is not None}


def parts_options(settings: Mapping[str, str]) -> dict[str, Any]:
    """What GenerationRequest.from_options can use of them; the picture started from is not in a text."""
    options: dict[str, Any] = {}
    seed, variation = settings.get("Variation seed", ""), _number(settings, "Variation seed strength", 1)
    if re.fullmatch(r"[0-9]{1,10}", seed) and variation is not None:
        options |= {"variation_seed": int(seed), "variation_strength": variation}
    if settings.get("Tiling") == "True":
        options["tiling"] = True
    interval = {name: _number(settings, key, 1) for key, name in INTERVAL.items()}
    given = {name: value for name, value in interval.items() if value is not None}
    if given.get("guidance_start", 0.0) < given.get("guidance_end", 1.0):
        options |= given
    scale, strength = (
        _number(settings, "Hires upscale", MAX_SCALE),
        _number(settings, "Denoising strength", 1),
    )
    if settings.get("Hires upscaler") in UPSCALERS and scale is not None and scale >= 1 and strength:
        second = {"scale": scale, "strength": strength, "upscaler": settings["Hires upscaler"]}
        steps = settings.get("Hires steps", "")
        if re.fullmatch(r"[1-9][0-9]{0,2}", steps):
            second["steps"] = int(steps)
        options["second_pass"] = second
    return options


def _control_text(control: ControlInput) -> str:
    """A ControlNet as the extension sd-webui-controlnet says it, which splits at commas and colons."""
    said = {
        "Module": control.preprocessor,
        "Model": re.sub("[,:]", " ", control.controlnet),
        "Weight": number_text(control.scale),
        "Resize Mode": "Crop and Resize",
        "Guidance Start": number_text(control.start),
        "Guidance End": number_text(control.end),
    }
    return ", ".join(f"{name}: {value}" for name, value in said.items())


def _number(settings: Mapping[str, str], key: str, most: float) -> float | None:
    text = settings.get(key, "")
    if NUMBER.fullmatch(text) and float(text) <= most:
        return float(text)
    return None
