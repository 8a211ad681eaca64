"""AUTOMATIC1111's text as a picture's settings, and as that program's own reader gives it to others."""

from collections.abc import Mapping
from typing import Any

from pipelines.infotext import options_from_infotext, parse_infotext, sampler_of_infotext, unused_settings
from pipelines.metadata.found import Found
from pipelines.metadata.texts import PARAMETERS

OUR_VERSION = "Latent Studio"
# What that program takes a text to mean that does not say it.
DEFAULTS: Mapping[str, str | int] = {
    "Clip skip": "1",
    "Hires resize-1": 0,
    "Hires resize-2": 0,
    "Hires sampler": "Use same sampler",
    "Hires checkpoint": "Use same checkpoint",
    "Hires prompt": "",
    "Hires negative prompt": "",
    "Mask mode": "Inpaint masked",
    "Masked content": "original",
    "Inpaint area": "Whole picture",
    "Masked area padding": 32,
    "RNG": "GPU",
    "Schedule type": "Automatic",
    "Schedule max sigma": 0,
    "Schedule min sigma": 0,
    "Schedule rho": 0,
    "VAE Encoder": "Full",
    "VAE Decoder": "Full",
    "FP8 weight": "Disable",
    "Emphasis": "Original",
}


def read_a1111(texts: Mapping[str, str]) -> Found | None:
    """The settings of a picture with AUTOMATIC1111's text, whichever program wrote it; None without one."""
    text = texts.get(PARAMETERS, "")
    if not text.strip() or text.lstrip().startswith("{"):
        return None
    settings = parse_infotext(text)
    ours = settings.get("Version") == OUR_VERSION
    found = Found(OUR_VERSION if ours else "AUTOMATIC1111", model_name=settings.get("Model"))
    found.options = options_from_infotext(settings)
    for name, value in unused_settings(settings, found.options).items():
        found.leave(name, value)
    found.left |= sampler_of_infotext(settings)[1]
    return found


def a1111_fields(text: str) -> dict[str, Any]:
    """The fields of a text as AUTOMATIC1111 hands them to its page and its programs.

    Sizes are two fields, `Size-1` and `Size-2`, and what the text does not say is filled in.
    """
    fields: dict[str, Any] = {}
    for key, value in parse_infotext(text).items():
        width, x, height = value.partition("x")
        if x and width.isdecimal() and height.isdecimal() and key not in ("Prompt", "Negative prompt"):
            fields |= {f"{key}-1": width, f"{key}-2": height}
        else:
            fields[key] = value
    return {**DEFAULTS, **fields}
