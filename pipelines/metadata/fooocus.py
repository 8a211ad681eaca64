"""Fooocus's `parameters`: a flat JSON object, or AUTOMATIC1111's text with words of its own."""

import re
from collections.abc import Mapping

from pipelines.infotext import options_from_infotext, parse_infotext, unused_settings
from pipelines.metadata.found import Found, number, whole
from pipelines.metadata.texts import FOOOCUS_SCHEME, PARAMETERS, read_json

# Said twice, or nothing of what a picture looks like.
ABOUT = {
    "full_prompt", "full_negative_prompt", "base_model_hash", "refiner_model_hash", "metadata_scheme",
    "version", "created_by", "loras",
}  # fmt: skip


def read_fooocus(texts: Mapping[str, str]) -> Found | None:
    """The settings of a Fooocus picture in either of its two forms, None if it is another program's."""
    text = texts.get(PARAMETERS, "")
    data = read_json(text) if text.lstrip().startswith("{") else None
    if isinstance(data, dict) and (FOOOCUS_SCHEME in texts or "base_model" in data):
        return _from_json(data)
    settings = parse_infotext(text) if text.strip() else {}
    if texts.get(FOOOCUS_SCHEME) == "a1111" or settings.get("Version", "").startswith("Fooocus"):
        return _from_text(settings)
    return None


def _from_json(data: dict[str, object]) -> Found:
    found, rest = Found("Fooocus"), dict(data)
    found.options = {
        "prompt": rest.pop("prompt", ""),
        "negative_prompt": rest.pop("negative_prompt", ""),
        "seed": whole(rest.pop("seed", None)),
        "steps": whole(rest.pop("steps", None)),
        "guidance_scale": number(rest.pop("guidance_scale", None)),
    }
    # A tuple of Python in words, "(1152, 896)".
    resolution = rest.pop("resolution", "")
    if size := re.fullmatch(r"[\[(]'?([0-9]{1,6})'?, ?'?([0-9]{1,6})'?[\])]", str(resolution)[:40]):
        found.options["width"], found.options["height"] = int(size[1]), int(size[2])
    sampler, scheduler = rest.pop("sampler", None), rest.pop("scheduler", None)
    if sampler is not None:
        found.take_sampler(sampler, scheduler)
    model = rest.pop("base_model", None)
    found.model_name = model if isinstance(model, str) else None
    for name, value in rest.items():
        if name not in ABOUT:
            found.leave(name, value)
    return found


def _from_text(settings: dict[str, str]) -> Found:
    found, rest = Found("Fooocus", model_name=settings.get("Model")), dict(settings)
    prompt, negative = rest.pop("Raw prompt", ""), rest.pop("Raw negative prompt", "")
    scheduler = rest.pop("Scheduler", None)
    found.options = options_from_infotext(rest)
    # What was typed; the text's own prompt has the words of the styles in it, all on one line.
    found.options["prompt"] = prompt or settings["Prompt"]
    found.options["negative_prompt"] = negative or settings["Negative prompt"]
    found.take_sampler(rest.pop("Sampler", "").removesuffix(" Karras"), scheduler)
    for name, value in unused_settings(rest, found.options).items():
        found.leave(name, value)
    return found
