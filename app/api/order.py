"""The body of `POST /v1/images/generations`: what of it is understood, and the sentences for the rest."""

import base64
import binascii
import dataclasses
import io
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from app.cards import ModelCard
from models.errors import DataError, RequestError, StudioError
from pipelines.checks import check_choice, check_flag, check_whole, shown
from pipelines.inputs import MAX_SIDE_PIXELS, InputStore, name_of
from pipelines.pictures import open_picture
from pipelines.remote_server import EVERYTHING, PICTURES_AT_ONCE
from pipelines.request import MAX_STEPS, GenerationRequest

SIZE = re.compile(r"([0-9]{1,5})x([0-9]{1,5})")
# Asked by OpenAI's clients of OpenAI's models: nothing here could follow it.
IGNORED = {"background", "moderation", "output_compression", "quality", "style", "user"}
# Fields of a request that stand under other names in OpenAI's form, or that only our own client can fill.
ELSEWHERE = {"prompt", "width", "height", "count", "image", "controls", "template", "negative_template"}
OURS = {field.name for field in dataclasses.fields(GenerationRequest)} - ELSEWHERE
THEIRS = {"prompt", "model", "n", "size", "response_format", "output_format", "stream", "partial_images"}


class ApiError(StudioError):
    """A refusal with its HTTP status and OpenAI's code for it."""

    def __init__(self, status: int, message: str, code: str | None = None) -> None:
        super().__init__(message)
        self.status, self.code = status, code


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What is to be drawn with which model; `previews` is how many of each picture are sent at most.

    `is_ours` tells that a Latent Studio asks, which understands what OpenAI's clients would stumble over.
    """

    request: GenerationRequest
    card: ModelCard
    stream: bool
    previews: int
    is_ours: bool


def read_order(body: bytes, models: Sequence[ModelCard], inputs: InputStore) -> Order:
    """Read a body, and keep the pictures that it brings; ApiError or RequestError says what is wrong.

    `latent_studio`, an object with `request` and the `pictures` that it starts from in base64 by their names,
    is a whole GenerationRequest and stands in the place of all fields but `model` and those of streaming.
    """
    try:
        values = json.loads(body)
    except (ValueError, RecursionError):
        raise RequestError("The body is not valid JSON.") from None
    if not isinstance(values, dict):
        raise RequestError('The body must be a JSON object such as {"prompt": "a red apple"}.')
    given = {name: value for name, value in values.items() if value is not None and name not in IGNORED}
    for name in given:
        if name not in OURS | THEIRS | {EVERYTHING}:
            raise RequestError(f"Unknown field {shown(name)}; there is {', '.join(sorted(OURS | THEIRS))}.")
    check_choice("response_format", given.get("response_format", "b64_json"), ("b64_json",))
    check_choice("output_format", given.get("output_format", "png"), ("png",))
    check_flag("stream", given.get("stream", False))
    check_whole("partial_images", given.get("partial_images", MAX_STEPS), 0, MAX_STEPS)
    card = _model(given.get("model"), models)
    ours = given.get(EVERYTHING)
    request = _request(given, card) if ours is None else _whole_request(ours, inputs)
    return Order(
        request=request.resolve(),
        card=card,
        stream=given.get("stream", False),
        previews=given.get("partial_images", MAX_STEPS),
        is_ours=ours is not None,
    )


def _model(name: object, models: Sequence[ModelCard]) -> ModelCard:
    for card in models:
        if name is None or card.name == name:
            return card
    if not models:
        raise ApiError(503, "No model is here to draw with.")
    there = ", ".join(card.name for card in models)
    raise ApiError(404, f"The model {shown(name)} is not here; there is {there}.", "model_not_found")


def _request(given: Mapping[str, Any], card: ModelCard) -> GenerationRequest:
    options = {name: value for name, value in given.items() if name in OURS}
    size = given.get("size", "auto")
    if size != "auto":
        found = SIZE.fullmatch(size) if isinstance(size, str) else None
        if found is None:
            raise RequestError(f'size must be "auto" or of the form "512x512", not {shown(size)}.')
        options |= {"width": int(found[1]), "height": int(found[2])}
    check_whole("n", given.get("n", 1), 1, PICTURES_AT_ONCE)
    options |= {"prompt": given.get("prompt", "" if not card.words else None), "count": given.get("n", 1)}
    return GenerationRequest.from_options(options, card.defaults)


def _whole_request(given: object, inputs: InputStore) -> GenerationRequest:
    if not isinstance(given, dict) or not isinstance(given.get("request"), dict):
        raise RequestError(f"{EVERYTHING} must be an object with request and pictures, not {shown(given)}.")
    request = GenerationRequest.from_dict(given["request"])
    check_whole("count", request.count, 1, PICTURES_AT_ONCE)
    pictures = given.get("pictures") or {}
    for name in request.input_names:
        if not isinstance(pictures, dict) or name not in pictures:
            raise RequestError(f"The picture {name[:12]} to start from did not come with the request.")
        inputs.add(_picture(name, pictures[name]))
    return request


def _picture(name: str, encoded: object) -> bytes:
    """The bytes of a picture that another Latent Studio keeps under this name."""
    try:
        data = base64.b64decode(encoded, validate=True) if isinstance(encoded, str) else b""
        if name_of(data) != name or not data.startswith(b"\x89PNG"):
            raise DataError("its bytes are not those of its name")
        if max(open_picture(io.BytesIO(data)).size) > MAX_SIDE_PIXELS:
            raise DataError(f"it is larger than {MAX_SIDE_PIXELS} pixels a side")
    except (binascii.Error, ValueError, DataError) as error:
        raise RequestError(f"The picture {name[:12]} to start from cannot be used: {error}.") from None
    return data
