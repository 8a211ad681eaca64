"""Pictures as the bytes of a PNG, JPEG or WebP, settings inside, and bytes as whole files."""

import io
import json
from collections.abc import Mapping
from typing import Any, Literal

from PIL import Image
from PIL.ExifTags import IFD, Base
from PIL.PngImagePlugin import PngInfo

from models.errors import StudioError
from pipelines.infotext import write_infotext
from pipelines.metadata.a1111 import OUR_VERSION
from pipelines.metadata.texts import MAX_PIXELS, OUR_TEXT, PARAMETERS, UNICODE
from pipelines.metadata.xmp import make_packet, make_segments
from pipelines.request import GenerationRequest

PictureFormat = Literal["PNG", "JPEG", "WebP"]
SUFFIXES: Mapping[PictureFormat, str] = {"PNG": ".png", "JPEG": ".jpg", "WebP": ".webp"}
QUALITY = 92
MAX_SIDE_PIXELS = 16_383  # of a WebP
MAX_EXIF_BYTES = 65_000  # a JPEG has one segment for it
WHITE = (255, 255, 255)


def encode_picture(
    image: Image.Image,
    format: PictureFormat,
    request: GenerationRequest,
    *,
    model_name: str,
    model_id: str,
    extra: Mapping[str, Any] | None = None,
) -> bytes:
    """The bytes of a file with this picture and the request that draws it: its own seed, count 1.

    AUTOMATIC1111's text stands where that program puts it: the chunk `parameters` of a PNG, the UserComment
    of a JPEG or WebP (left out of a JPEG where it would not fit). Ours, lossless with `extra`, stands in a
    chunk of a PNG and in XMP elsewhere. Raises StudioError for a picture that the format cannot hold.
    """
    if request.seed is None or request.count != 1:
        raise ValueError("a picture is saved with the request of this picture: its seed known, count 1")
    if max(image.size) > MAX_SIDE_PIXELS or image.width * image.height > MAX_PIXELS:
        raise StudioError(f"A picture of {image.width} by {image.height} pixels is too large to be saved.")
    said = {key: value for key, value in (extra or {}).items() if isinstance(value, str)}
    vae = (said.get("vae", ""), said.get("vae_hash", ""))
    infotext = write_infotext(request, model_name, model_id, OUR_VERSION, said.get("embeddings", ""), vae)
    ours = json.dumps(
        {
            "request": request.to_dict(),
            "model_name": model_name,
            "model_id": model_id,
            "extra": dict(extra or {}),
        }
    )
    buffer = io.BytesIO()
    if format == "PNG":
        info = PngInfo()
        info.add_text(PARAMETERS, infotext)
        info.add_text(OUR_TEXT, ours)
        image.save(buffer, "PNG", pnginfo=info)
        return buffer.getvalue()
    exif = Image.Exif()
    exif.get_ifd(IFD.Exif)[Base.UserComment] = UNICODE + infotext.encode("utf-16-be")
    comment = exif.tobytes()
    if format == "WebP":
        image.save(buffer, "WEBP", quality=QUALITY, exif=comment, xmp=make_packet(ours))
        return buffer.getvalue()
    if len(comment) > MAX_EXIF_BYTES:
        comment = b""
    if image.has_transparency_data:
        opaque = Image.new("RGBA", image.size, WHITE)
        opaque.alpha_composite(image.convert("RGBA"))
        image = opaque
    segments = make_segments(ours)
    image.convert("RGB").save(
        buffer, "JPEG", quality=QUALITY, subsampling=0, exif=comment, extra=segments, optimize=True
    )
    return buffer.getvalue()
