"""The pictures and masks that requests start from: PNG files named by their sha256. No torch."""

import hashlib
import io
from pathlib import Path
from typing import BinaryIO

from PIL import Image

from models.errors import DataError, RequestError
from pipelines.files import write_whole
from pipelines.pictures import WHITE, check_size, opaque, open_picture, smaller

MAX_SIDE_PIXELS = 4096  # a larger picture is made smaller: twice what can be drawn, and enough to paste into
BLACK = (0, 0, 0)


def read_picture(source: Path | BinaryIO | Image.Image) -> bytes:
    """A person's picture as the PNG that is stored: upright, transparency on white, nothing else in the file.

    Raises RequestError saying what is wrong with it.
    """
    return _png(source, WHITE, "RGB")


def read_mask(source: Path | BinaryIO | Image.Image) -> bytes:
    """A mask as the PNG that is stored: white where it is white, black where it is black or transparent."""
    return _png(source, BLACK, "L")


def name_of(data: bytes) -> str:
    """What `InputStore` calls these bytes."""
    return hashlib.sha256(data).hexdigest()


class InputStore:
    """A folder of input pictures, each under its own sha256, so that none is ever written over another."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, name: str) -> Path:
        """The file of a picture."""
        return self.folder / f"{name}.png"

    def add(self, data: bytes) -> str:
        """Keep what `read_picture` or `read_mask` made; its name. StudioError if the disk refuses."""
        name = name_of(data)
        path = self.path(name)
        if path.exists():
            path.touch()  # its age counts from its last use
        else:
            write_whole(path, data)
        return name

    def open(self, name: str) -> Image.Image:
        """The picture of this name; RequestError where it is gone or no longer what it was."""
        try:
            data = self.path(name).read_bytes()
        except OSError as error:
            raise RequestError(
                f"The picture {name[:12]} to start from is not in {self.folder}; choose it again."
            ) from error
        if name_of(data) != name:
            raise RequestError(f"{self.path(name)} is not what it was when it was stored; choose it again.")
        with Image.open(io.BytesIO(data), formats=("PNG",)) as image:
            image.load()
        return image


def _png(source: Path | BinaryIO | Image.Image, background: tuple[int, int, int], mode: str) -> bytes:
    try:
        if isinstance(source, Image.Image):
            check_size(source)
            image = smaller(opaque(source.copy(), background), MAX_SIDE_PIXELS)
        else:
            image = open_picture(source, background, MAX_SIDE_PIXELS)
    except DataError as error:
        named = f"{source} " if isinstance(source, Path) else "The picture "
        raise RequestError(f"{named}cannot be used: {error}.") from error
    if image.mode != mode:
        image = image.convert(mode)
    image.info.clear()
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()
