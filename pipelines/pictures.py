"""Where every picture of a person's is opened: judged by its header, decoded, upright, opaque. No torch."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from models.errors import DataError

# Pillow knows dozens more, some of which start other programs (EPS: Ghostscript).
FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF")
# A picture that claims more is refused before it is decoded: up to these, opening one takes less than 400 MB.
MAX_PIXELS = 36_000_000
MAX_JPEG_PIXELS, MAX_PROGRESSIVE_PIXELS = (
    50_000_000,
    25_000_000,
)  # decoded at a half; kept whole
MAX_COPIED_PIXELS = 20_000_000  # read by way of a copy: transparency, a palette, 16 bits
MAX_WEBP_PIXELS = 2**24  # whose reader keeps several
PLAIN_MODES = ("1", "L", "RGB")
MIN_SIDE = 16
WHITE = (255, 255, 255)
STRIP_PIXELS = 2**20  # of a transparent picture at a time: no third copy of a large one

# What is odd in a file without spoiling it (torn EXIF) is not worth a line, and the size is judged here.
# Set once and not around each picture: filters belong to the process, and pictures are read in threads.
warnings.filterwarnings("ignore", module=r"PIL\.")


@contextmanager
def looked_at(source: Path | IO[bytes], formats: tuple[str, ...] = FORMATS) -> Iterator[Image.Image]:
    """A picture whose header can be read, before any of its pixels is decoded.

    Raises: DataError saying what is wrong with the file, also of what goes wrong in the `with` block.
    """
    try:
        with Image.open(source, formats=formats) as image:
            yield image
    except DataError:
        raise
    except UnidentifiedImageError as error:
        raise DataError(f"not a readable picture (none of {', '.join(formats)})") from error
    except MemoryError as error:
        raise DataError("there is not enough memory to open it; make it smaller") from error
    except Exception as error:  # broken files let anything escape from Pillow's readers
        raise DataError(f"not a readable picture ({str(error) or type(error).__name__})") from error


def open_picture(
    source: Path | IO[bytes],
    background: tuple[int, int, int] | None = WHITE,
    max_side: int | None = None,
) -> Image.Image:
    """A picture as RGB, upright, its transparency laid on a colour; of an animation the first frame.

    Without a `background` it is RGBA. What is longer than `max_side` is made smaller.

    Raises: DataError saying what is wrong with the file.
    """
    with looked_at(source) as image:
        check_size(image)
        if max_side is not None and image.width * image.height > MAX_PIXELS:
            image.draft(None, (max_side // 2, max_side // 2))  # a JPEG can be decoded at a half or a quarter
        ImageOps.exif_transpose(image, in_place=True)
        if background is not None:
            return smaller(opaque(image, background), max_side)
        if image.mode in PLAIN_MODES:  # made smaller first: four bytes a pixel are enough of a large one
            return _as(smaller(image, max_side), "RGBA")
        return smaller(_as(_eight_bits(image), "RGBA"), max_side)


def check_size(image: Image.Image) -> None:
    """DataError for a picture with fewer pixels than make one, or more than are decoded of its kind."""
    if min(image.size) < MIN_SIDE:
        raise DataError(f"{image.width}x{image.height} pixels are too few (at least {MIN_SIDE}x{MIN_SIDE})")
    most = MAX_PIXELS if image.mode in PLAIN_MODES else MAX_COPIED_PIXELS
    if image.format == "WEBP":
        most = MAX_WEBP_PIXELS
    elif image.format == "JPEG" and most == MAX_PIXELS:
        most = MAX_PROGRESSIVE_PIXELS if image.info.get("progressive") else MAX_JPEG_PIXELS
    if image.width * image.height > most:
        raise DataError(f"{image.width}x{image.height} pixels are too many (at most {most:,})")


def opaque(image: Image.Image, background: tuple[int, int, int]) -> Image.Image:
    """A picture as RGB with its transparency laid on a colour."""
    image = _eight_bits(image)
    if not image.has_transparency_data:
        return _as(image, "RGB")
    flat = Image.new("RGB", image.size)
    rows = max(1, STRIP_PIXELS // image.width)
    for top in range(0, image.height, rows):
        strip = image.crop((0, top, image.width, min(image.height, top + rows))).convert("RGBA")
        flat.paste(Image.alpha_composite(Image.new("RGBA", strip.size, background), strip), (0, top))
    return flat


def smaller(image: Image.Image, max_side: int | None) -> Image.Image:
    """The picture, or a smaller one where a side is longer than `max_side`."""
    if max_side is None:
        return image
    image.thumbnail((max_side, max_side), Image.Resampling.LANCZOS)
    return image.copy()  # away from its file's reader, which keeps what it needs for a next frame


def _eight_bits(image: Image.Image) -> Image.Image:
    """A picture without its 16 bits of grey, which Pillow would clip to 8."""
    if not image.mode.startswith("I"):
        return image
    return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))


def _as(image: Image.Image, mode: str) -> Image.Image:
    """A picture in a mode; itself, decoded, where it is in that mode: a copy could be 256 MB."""
    image.load()
    return image if image.mode == mode else image.convert(mode)
