"""Pictures on disk: PNG with the settings that drew them, for other programs and, exactly, for this one."""

import json
import os
import secrets
import struct
import warnings
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from PIL import Image
from PIL.PngImagePlugin import PngImageFile, PngInfo

from models.errors import RequestError, StudioError
from pipelines.infotext import options_from_infotext, parse_infotext, write_infotext
from pipelines.request import GenerationRequest

A1111_CHUNK, OUR_CHUNK = "parameters", "latent_studio"
VERSION_TEXT = "Latent Studio"
MAX_FILE_BYTES = 100 * 2**20
MAX_PIXELS = 64 * 2**20


@dataclass(frozen=True, slots=True, kw_only=True)
class PngSettings:
    """What a PNG says of how it was drawn.

    `request` draws it again and is None for other programs' pictures; `options` is what is known for
    GenerationRequest.from_options; `infotext` the settings as AUTOMATIC1111 names them.
    """

    request: GenerationRequest | None
    options: dict[str, Any]
    infotext: dict[str, str]
    model_name: str | None = None
    model_id: str | None = None
    extra: dict[str, Any]


def save_png(
    image: Image.Image,
    path: Path,
    request: GenerationRequest,
    *,
    model_name: str,
    model_id: str,
    extra: Mapping[str, Any] | None = None,
) -> None:
    """Write one picture, whole or not at all, with the request that draws it: its own seed, count 1.

    `extra` is kept as JSON beside the request. Raises StudioError if the disk does not take it.
    """
    if request.seed is None or request.count != 1:
        raise ValueError("a picture is saved with the request of this picture: its seed known, count 1")
    info = PngInfo()
    info.add_text(A1111_CHUNK, write_infotext(request, model_name, model_id, VERSION_TEXT))
    ours = {
        "request": request.to_dict(),
        "model_name": model_name,
        "model_id": model_id,
        "extra": dict(extra or {}),
    }
    info.add_text(OUR_CHUNK, json.dumps(ours))
    temporary = path.with_name(f".{secrets.token_hex(8)}.tmp")
    try:
        with open(temporary, "xb") as file:
            image.save(file, "PNG", pnginfo=info)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        raise StudioError(f"{path} cannot be written: {error.strerror or error}.") from error
    finally:
        temporary.unlink(missing_ok=True)


def read_png(source: Path | str | IO[bytes]) -> PngSettings | None:
    """The settings in a PNG, ours before AUTOMATIC1111's; None if it has none, is damaged or is no PNG.

    The file is not trusted: a chunk of ours that does not hold a valid request is passed over.
    """
    chunks = _text_chunks(source)
    text = chunks.get(A1111_CHUNK, "")
    infotext = parse_infotext(text) if text.strip() else {}
    try:
        ours = json.loads(chunks.get(OUR_CHUNK, ""))
        request = GenerationRequest.from_dict(ours["request"])
        extra = ours.get("extra")
        return PngSettings(
            request=request,
            options=request.to_dict(),
            infotext=infotext,
            model_name=str(ours["model_name"]),
            model_id=str(ours["model_id"]),
            extra=extra if isinstance(extra, dict) else {},
        )
    except (RequestError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        if not infotext:
            return None
    return PngSettings(
        request=None,
        options=options_from_infotext(infotext),
        infotext=infotext,
        model_name=infotext.get("Model"),
        model_id=infotext.get("Model hash"),
        extra={},
    )


def _text_chunks(source: Path | str | IO[bytes]) -> dict[str, str]:
    try:
        if isinstance(source, Path | str) and os.path.getsize(source) > MAX_FILE_BYTES:
            return {}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow warns of large pictures; these are refused below
            with Image.open(source, formats=("PNG",)) as image:
                if not isinstance(image, PngImageFile) or image.width * image.height > MAX_PIXELS:
                    return {}
                chunks = {str(name): str(text) for name, text in image.info.items() if isinstance(text, str)}
                if A1111_CHUNK not in chunks and OUR_CHUNK not in chunks:
                    image.load()  # some programs write the text behind the pixels
                    chunks = {str(name): str(text) for name, text in image.text.items()}
                return chunks
    except (
        OSError,
        ValueError,
        SyntaxError,
        EOFError,
        struct.error,
        zlib.error,
        Image.DecompressionBombError,
    ):
        return {}
