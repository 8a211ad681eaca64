"""The settings in a picture, whichever program drew it."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from models.errors import RequestError
from pipelines.metadata.a1111 import OUR_VERSION, read_a1111
from pipelines.metadata.comfyui import read_comfyui
from pipelines.metadata.fooocus import read_fooocus
from pipelines.metadata.found import Found
from pipelines.metadata.invokeai import read_invokeai
from pipelines.metadata.texts import OUR_TEXT, Source, read_json, read_texts
from pipelines.request import GenerationRequest

# A text before a graph: programs that write both say in the text what was drawn.
READERS = (read_fooocus, read_invokeai, read_a1111, read_comfyui)
# An option is tried on this; those that only go together, together.
NEUTRAL = GenerationRequest(prompt="", width=64, height=64, steps=1, guidance_scale=1.0, sampler="Euler")
TOGETHER = (("sampler", "schedule"),)


@dataclass(frozen=True, slots=True, kw_only=True)
class PictureSettings:
    """What a picture says of how it was drawn.

    `request` draws it again and is None for other programs' pictures; `options` is what is known for
    GenerationRequest.from_options, each of them valid; `left` is what could not be used, in the program's
    words; `extra` what `save_png` was given beside the request.
    """

    program: str
    request: GenerationRequest | None
    options: Mapping[str, Any]
    left: Mapping[str, str]
    model_name: str | None = None
    model_id: str | None = None
    extra: Mapping[str, Any]


def read_settings(source: Source) -> PictureSettings | None:
    """The settings in a PNG, JPEG, WebP or AVIF: ours, or those of the program that drew it; None without.

    The file is not trusted: a text of ours that does not hold a valid request is passed over.
    """
    texts = read_texts(source)
    ours = _ours(read_json(texts.get(OUR_TEXT, "")))
    if ours is not None:
        return ours
    for read in READERS:
        try:
            found = read(texts)
        except RecursionError:  # JSON nested just deep enough to be parsed, and too deep to be written down
            continue
        if found is not None:
            return _checked(found)
    return None


def _ours(data: object) -> PictureSettings | None:
    if not isinstance(data, dict) or not isinstance(data.get("request"), dict):
        return None
    try:
        request = GenerationRequest.from_dict(data["request"])
    except (RequestError, TypeError):
        return None
    extra = data.get("extra")
    return PictureSettings(
        program=OUR_VERSION,
        request=request,
        options=request.to_dict(),
        left={},
        model_name=str(data.get("model_name", "")),
        model_id=str(data.get("model_id", "")),
        extra=extra if isinstance(extra, dict) else {},
    )


def _checked(found: Found) -> PictureSettings:
    """Only what a request can hold; the rest is named among what is left."""
    groups = [group for group in TOGETHER if set(group) <= set(found.options)]
    single = [(name,) for name in found.options if not any(name in group for group in groups)]
    options: dict[str, Any] = {}
    for group in (*groups, *single):
        values = {name: found.options[name] for name in group if found.options[name] is not None}
        try:
            dataclasses.replace(NEUTRAL, **values)
        except RequestError as error:
            found.left |= {name: f"{str(value)[:60]} ({error})" for name, value in values.items()}
        else:
            options |= values
    return PictureSettings(
        program=found.program,
        request=None,
        options={name: options[name] for name in found.options if name in options},
        left=found.left,
        model_name=found.model_name,
        extra={},
    )
