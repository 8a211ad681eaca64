"""The texts inside a picture file, by the name that a PNG gives them, however hostile the file is.

PNG chunks are walked here, without their pixels; for JPEG, WebP and AVIF Pillow finds EXIF and XMP.
"""

import io
import json
import os
import struct
import zlib
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import IO

from PIL import Image
from PIL.ExifTags import IFD, Base
from PIL.JpegImagePlugin import JpegImageFile

from models.errors import DataError
from pipelines.metadata.xmp import EXTENSION, read_packet
from pipelines.pictures import looked_at

PARAMETERS = "parameters"  # AUTOMATIC1111's name for its text
FOOOCUS_SCHEME = "fooocus_scheme"
OUR_TEXT = "latent_studio"
MAX_FILE_BYTES = 100 * 2**20
MAX_TEXT_BYTES, MAX_TEXTS_BYTES = 2 * 2**20, 8 * 2**20
MAX_CHUNKS = 100_000
MAX_PIXELS = 64 * 2**20
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
UNICODE = b"UNICODE\0"  # how a UserComment of UTF-16 begins

Source = Path | str | bytes | IO[bytes]


def read_texts(source: Source) -> dict[str, str]:
    """All texts of a picture, by name; none for a file that is missing, damaged, too large or no picture.

    A text longer than MAX_TEXT_BYTES, packed or not, is left out.
    """
    try:
        if isinstance(source, Path | str):
            if os.path.getsize(source) > MAX_FILE_BYTES:
                return {}
            with open(source, "rb") as file:
                return _read(file)
        return _read(io.BytesIO(source) if isinstance(source, bytes) else source)
    except OSError:
        return {}


def read_json(text: str) -> object:
    """What a text says as JSON; None where it says nothing, too much, or nests too deep."""
    if len(text) > MAX_TEXT_BYTES:
        return None
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _read(file: IO[bytes]) -> dict[str, str]:
    if file.read(len(PNG_SIGNATURE)) == PNG_SIGNATURE:
        return _png_texts(file)
    file.seek(0)
    with suppress(DataError), looked_at(file, ("JPEG", "WEBP", "AVIF")) as image:
        if image.width * image.height <= MAX_PIXELS:
            return _exif_texts(image.getexif()) | _xmp_texts(image)
    return {}


def _png_texts(file: IO[bytes]) -> dict[str, str]:
    texts: dict[str, str] = {}
    total_bytes = 0
    for _ in range(MAX_CHUNKS):
        head = file.read(8)
        if len(head) < 8 or head[4:] == b"IEND":
            break
        length, kind = struct.unpack(">I4s", head)
        if kind not in (b"tEXt", b"zTXt", b"iTXt") or length > MAX_TEXT_BYTES:
            file.seek(length + 4, os.SEEK_CUR)
            continue
        name, _, body = file.read(length).partition(b"\0")
        file.seek(4, os.SEEK_CUR)
        text = _chunk_text(kind, body)
        if text is not None:
            total_bytes += len(text)
            if total_bytes > MAX_TEXTS_BYTES:
                break
            texts[name.decode("latin-1")] = text
    return texts


def _chunk_text(kind: bytes, body: bytes) -> str | None:
    if kind == b"tEXt":
        return body.decode("latin-1")
    if kind == b"zTXt":
        data = _unpack(body[1:])
        return None if data is None else data.decode("latin-1")
    packed, rest = body[:1] == b"\1", body[2:]
    for _ in ("language", "translated name"):
        _, _, rest = rest.partition(b"\0")
    data = _unpack(rest) if packed else rest
    return None if data is None else data.decode("utf-8", "replace")


def _unpack(packed: bytes) -> bytes | None:
    """What zlib packed, None if it is damaged or larger than a text may be."""
    unpacker = zlib.decompressobj()
    try:
        data = unpacker.decompress(packed, MAX_TEXT_BYTES)
    except zlib.error:
        return None
    return None if unpacker.unconsumed_tail else data


def _exif_texts(exif: Image.Exif) -> dict[str, str]:
    """AUTOMATIC1111's and Fooocus's texts in a UserComment, ComfyUI's as "prompt:..." in any tag."""
    tags: Mapping[int, object] = dict(exif) | exif.get_ifd(IFD.Exif)
    texts: dict[str, str] = {}
    for tag, value in tags.items():
        if not isinstance(value, str | bytes) or len(value) > MAX_TEXT_BYTES:
            continue
        text = _comment(value) if isinstance(value, bytes) else value
        if tag == Base.UserComment:
            texts[PARAMETERS] = text
        elif tag == Base.MakerNote and text.strip("\0 ") in ("fooocus", "a1111"):
            texts[FOOOCUS_SCHEME] = text.strip("\0 ")
        elif text.startswith(("prompt:", "workflow:")):
            name, _, text = text.partition(":")
            texts[name] = text
    return texts


def _comment(value: bytes) -> str:
    if not value.startswith(UNICODE):
        return value.removeprefix(b"ASCII\0\0\0").strip(b"\0").decode("utf-8", "replace")
    # AUTOMATIC1111 writes the higher byte first, some programs the lower one, and none says which.
    readings = [value[len(UNICODE) :].decode(order, "replace") for order in ("utf-16-be", "utf-16-le")]
    return next((text for text in readings if "Steps:" in text or '"' in text), readings[0])


def _xmp_texts(image: Image.Image) -> dict[str, str]:
    packets = [image.info.get("xmp", b"")]
    if isinstance(image, JpegImageFile):
        segments = [data for name, data in image.applist if name == "APP1" and data.startswith(EXTENSION)]
    else:
        segments = []
    text = read_packet(packets[0], segments)
    return {} if text is None else {OUR_TEXT: text}
