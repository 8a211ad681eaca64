"""Pictures packed for a download: one file in the wanted format, or an archive of several."""

import secrets
import shutil
import time
import zipfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from PIL import Image

from app.picture import Picture
from models.errors import RequestError
from pipelines.export import SUFFIXES, PictureFormat, encode_picture
from pipelines.filename import file_name
from pipelines.metadata.settings import read_settings

MAX_PICTURES = 200
MAX_ARCHIVE_BYTES = 500 * 2**20
KEPT_SECONDS = 600.0  # a browser has begun to fetch by then
PREFIX = "download-"


def pack(pictures: Sequence[Picture], format: PictureFormat, pattern: str, folder: Path) -> Path:
    """A file in `folder` to download: the picture, or a zip of several, named by `pattern`.

    Raises RequestError for none, for more than MAX_PICTURES, and where they pass MAX_ARCHIVE_BYTES.
    """
    if not pictures:
        raise RequestError("There is no picture to download: choose one first.")
    if len(pictures) > MAX_PICTURES:
        raise RequestError(f"At most {MAX_PICTURES} pictures go into one download, not {len(pictures)}.")
    for old in folder.glob(f"{PREFIX}*"):
        with suppress(FileNotFoundError):  # another download clears it away at this moment
            if time.time() - old.stat().st_mtime > KEPT_SECONDS:
                shutil.rmtree(old, ignore_errors=True)
    place = folder / f"{PREFIX}{secrets.token_hex(8)}"
    place.mkdir(mode=0o700, parents=True)
    names = _names(pictures, pattern, SUFFIXES[format])
    if len(pictures) == 1:
        path = place / names[0]
        path.write_bytes(_encode(pictures[0], format))
        return path
    path = place / f"latent-studio-{len(pictures)}-pictures.zip"
    total_bytes = 0
    # Pictures are packed already.
    with zipfile.ZipFile(path, "x", zipfile.ZIP_STORED) as archive:
        for picture, name in zip(pictures, names, strict=True):
            data = _encode(picture, format)
            total_bytes += len(data)
            if total_bytes > MAX_ARCHIVE_BYTES:
                raise RequestError(
                    f"One download holds {MAX_ARCHIVE_BYTES // 2**20} MiB: choose fewer pictures."
                )
            archive.writestr(name, data)
    return path


def _names(pictures: Sequence[Picture], pattern: str, suffix: str) -> list[str]:
    names: list[str] = []
    taken: set[str] = set()
    for picture in pictures:
        stem = file_name(pattern, picture.request, model_name=picture.model, created=picture.created)
        name, number = stem, 1
        while name.casefold() in taken:  # some file systems know no case
            number += 1
            name = f"{stem}-{number}"
        taken.add(name.casefold())
        names.append(f"{name}{suffix}")
    return names


def _encode(picture: Picture, format: PictureFormat) -> bytes:
    if format == "PNG":
        return picture.path.read_bytes()
    settings = read_settings(picture.path)
    with Image.open(picture.path) as image:
        return encode_picture(
            image,
            format,
            picture.request,
            model_name=picture.model,
            model_id=(settings.model_id if settings is not None else None) or "",
            extra=settings.extra if settings is not None else None,
        )
