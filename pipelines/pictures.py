"""One picture of a person's: judged by its header, decoded, upright and opaque. No torch."""

import warnings
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from models.errors import DataError

FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF")
MAX_PIXELS = 64_000_000  # a picture that claims more is refused before it is decoded
MIN_SIDE = 16
WHITE = (255, 255, 255)

# What is odd in a file without spoiling it (torn EXIF, a size that we judge ourselves) is not worth a line.
# Set once and not around each picture: filters belong to the process, and pictures are read in threads.
warnings.filterwarnings("ignore", module=r"PIL\.")


def open_picture(source: Path | BinaryIO, background: tuple[int, int, int] = WHITE) -> Image.Image:
    """A picture as RGB, upright, its transparency laid on a colour; of an animation the first frame.

    Raises: DataError saying what is wrong with the file.
    """
    try:
        with Image.open(source, formats=FORMATS) as image:
            if image.width * image.height > MAX_PIXELS:
                raise DataError(f"{image.width}x{image.height} pixels are too many (at most {MAX_PIXELS:,})")
            if min(image.size) < MIN_SIDE:
                raise DataError(
                    f"{image.width}x{image.height} pixels are too few (at least {MIN_SIDE}x{MIN_SIDE})"
                )
            upright = ImageOps.exif_transpose(image)
            if upright.mode.startswith("I"):  # 16 bits of grey, which Pillow would clip to 8
                upright = Image.fromarray((np.asarray(upright) >> 8).astype(np.uint8))
            if not upright.has_transparency_data:
                return upright.convert("RGB")
            rgba = upright.convert("RGBA")
    except DataError:
        raise
    except UnidentifiedImageError as error:
        raise DataError(f"not a readable picture (none of {', '.join(FORMATS)})") from error
    except Exception as error:  # broken files let anything escape from Pillow's readers
        raise DataError(f"not a readable picture ({str(error) or type(error).__name__})") from error
    return Image.alpha_composite(Image.new("RGBA", rgba.size, background), rgba).convert("RGB")
