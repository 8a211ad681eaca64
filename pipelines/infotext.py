"""AUTOMATIC1111's settings text, the form that most programs read: written as it does, read more forgivingly.

Its reader is matched where it is right; besides, this one keeps JSON values whole, finds the settings when
other lines follow them, when there are fewer than three, and when a site has put everything on one line.
"""

import json
import re
from collections.abc import Mapping
from typing import Any

from pipelines.infotext_parts import NUMBER, PARTS_OPTIONS, number_text, parts_options, parts_settings
from pipelines.metadata.names import sampler_options
from pipelines.request import GenerationRequest
from pipelines.samplers import split_fused_name

MAX_INFOTEXT_CHARACTERS = 200_000
BEFORE_NOISE = ("Variation seed", "Variation seed strength", "Denoising strength", "Init image hash")
NEGATIVE = "Negative prompt:"
_KEY = re.compile(r"\s*(\w[\w \-/]+):\s*")
_QUOTED = re.compile(r'"(?:\\.|[^\\"])*"')
_ONE_LINE = re.compile(r"(?:^|[\s,.])(Steps: ?\d+, ?[A-Z][\w ]*:)")


# The option that a setting becomes, and those that say what drew a picture but not how.
_OPTIONS = {
    "Steps": "steps",
    "Sampler": "sampler",
    "Schedule type": "schedule",
    "CFG scale": "guidance_scale",
    "Seed": "seed",
    "Size": "width",
    "RNG": "noise",
    "Instant": "instant",
    **PARTS_OPTIONS,
}
_ABOUT = ("Prompt", "Negative prompt", "Model", "Model hash", "Version", "Denoising steps")


def write_infotext(
    request: GenerationRequest,
    model_name: str,
    model_id: str,
    version: str,
    embeddings: str = "",
    vae: tuple[str, str] = ("", ""),
) -> str:
    """The text for the PNG chunk `parameters`, its keys in AUTOMATIC1111's order.

    `embeddings` are the learned words in the prompts with their hashes, as it has them: `a: 0123, b: 4567`;
    `vae` is an autoencoder that is not the model's own, by the name and the hash of its file.
    """
    parts = parts_settings(request)
    settings = {
        "Steps": request.steps,
        "Sampler": request.sampler,
        "Schedule type": request.schedule,
        "CFG scale": number_text(request.guidance_scale),
        "Seed": request.seed,
        "Size": f"{request.width}x{request.height}",
        "Model hash": model_id,
        "Model": model_name,
        **({"VAE hash": vae[1], "VAE": vae[0]} if vae[0] else {}),
        **{key: parts.pop(key) for key in list(parts) if key in BEFORE_NOISE},
        "RNG": request.noise.upper(),
        **parts,
        **({"Instant": "True"} if request.instant else {}),
        **({"TI hashes": embeddings} if embeddings else {}),
        "Version": version,
    }
    lines = [request.prompt]
    if request.negative_prompt:
        lines.append(f"{NEGATIVE} {request.negative_prompt}")
    lines.append(", ".join(f"{key}: {_quote(str(value))}" for key, value in settings.items()))
    return "\n".join(lines)


def _quote(value: str) -> str:
    # Also what would be taken for a quoted or a JSON value, or lose the spaces around it.
    plain = value == value.strip() and not re.search(r'[,:\n]|^["{\[]', value)
    return value if plain else json.dumps(value, ensure_ascii=False)


def parse_infotext(text: str) -> dict[str, str]:
    """Every setting by its name in the text, with "Prompt" and "Negative prompt"; never fails on any text.

    Of two equal names the last wins. What is longer than MAX_INFOTEXT_CHARACTERS is cut.
    """
    lines = text[:MAX_INFOTEXT_CHARACTERS].strip().split("\n")
    place = next((i for i in reversed(range(len(lines))) if lines[i].lstrip().startswith("Steps:")), None)
    settings: dict[str, str] = {}
    one_line = _ONE_LINE.search(lines[-1]) if lines and place is None else None
    if place is not None:
        for line in lines[place + 1 :]:  # such as the Template lines of dynamic prompts
            key, colon, value = line.partition(":")
            if colon and key.strip():
                settings[key.strip()] = value.strip()
        settings |= _parse_settings(lines[place])
        lines = lines[:place]
    elif one_line:
        settings = _parse_settings(lines[-1][one_line.start(1) :])
        lines[-1] = lines[-1][: one_line.start(1)].rstrip(" ,")
        lines = "\n".join(lines).replace(f" {NEGATIVE}", f"\n{NEGATIVE}", 1).split("\n")
    elif lines and len(found := _parse_settings(lines[-1])) >= 3:
        settings, lines = found, lines[:-1]
    prompt: list[str] = []
    negative: list[str] = []
    part = prompt
    for line in map(str.strip, lines):
        if line.startswith(NEGATIVE):
            part = negative
            line = line[len(NEGATIVE) :].strip()
        part.append(line)
    words = "\n".join(prompt)
    if "Hypernet" in settings:  # how early versions named one; later ones have it in the prompt
        words += f"<hypernet:{settings['Hypernet']}:{settings.get('Hypernet strength', '1.0')}>"
    return settings | {"Prompt": words, "Negative prompt": "\n".join(negative)}


def _parse_settings(line: str) -> dict[str, str]:
    settings: dict[str, str] = {}
    position = 0
    while position < len(line):
        key = _KEY.match(line, position)
        end = line.find(",", position if key is None else key.end())
        end = len(line) if end < 0 else end
        if key is not None:
            value, after = _parse_value(line, key.end(), end)
            settings[key[1]] = value
            end = (
                max(end, line.find(",", after) if "," in line[after:] else len(line)) if after > end else end
            )
        position = end + 1
    return settings


def _parse_value(line: str, start: int, end: int) -> tuple[str, int]:
    """The value at `start` and where it ends: quoted, JSON, or plain up to the comma at `end`."""
    if quoted := _QUOTED.match(line, start):
        try:
            return str(json.loads(quoted[0])), quoted.end()
        except ValueError:
            return quoted[0], quoted.end()
    if line[start : start + 1] in ("{", "["):
        try:
            _, after = json.JSONDecoder().raw_decode(line, start)
            return line[start:after], after
        except (ValueError, RecursionError):
            pass
    return line[start:end].strip(), end


def options_from_infotext(settings: Mapping[str, str]) -> dict[str, Any]:
    """What GenerationRequest.from_options can use of parsed settings; what is not understood is left out."""
    options: dict[str, Any] = {
        "prompt": settings.get("Prompt", ""),
        "negative_prompt": settings.get("Negative prompt", ""),
    }
    for key, name in (("Steps", "steps"), ("Seed", "seed")):
        if re.fullmatch(r"[0-9]{1,20}", settings.get(key, "")):
            options[name] = int(settings[key])
    if NUMBER.fullmatch(settings.get("CFG scale", "")):
        options["guidance_scale"] = float(settings["CFG scale"])
    if size := re.fullmatch(r"([0-9]{1,6})x([0-9]{1,6})", settings.get("Size", "")):
        options["width"], options["height"] = int(size[1]), int(size[2])
    options |= sampler_of_infotext(settings)[0]
    if settings.get("RNG") in ("CPU", "NV"):
        options["noise"] = settings["RNG"].lower()
    options |= parts_options(settings)
    if settings.get("Instant") == "True":
        options["instant"] = True
    return options


def sampler_of_infotext(settings: Mapping[str, str]) -> tuple[dict[str, str], dict[str, str]]:
    """The options of the sampler, and what of it there is no like of here; fused names are split."""
    sampler, fused = split_fused_name(settings.get("Sampler", ""))
    return sampler_options(sampler, settings.get("Schedule type", fused)) if sampler else ({}, {})


def unused_settings(settings: Mapping[str, str], options: Mapping[str, Any]) -> dict[str, str]:
    """The settings that did not become an option and would change the picture."""
    return {
        key: value
        for key, value in settings.items()
        if key not in _ABOUT and _OPTIONS.get(key) not in options and value
    }
