"""One training picture: out of its file or shard, and as a tensor of the size asked for."""

import io
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import PIL
from PIL import Image, ImageOps

from pipelines.pictures import (
    MAX_COPIED_PIXELS,
    MAX_JPEG_PIXELS,
    MAX_PIXELS,
    MAX_PROGRESSIVE_PIXELS,
    MAX_WEBP_PIXELS,
    MIN_SIDE,
    WHITE,
    open_picture,
)
from training.data.entries import Entry
from training.data.shards import read_member

if TYPE_CHECKING:
    from torch import Tensor

LIMITS = (MAX_PIXELS, MAX_JPEG_PIXELS, MAX_PROGRESSIVE_PIXELS, MAX_COPIED_PIXELS, MAX_WEBP_PIXELS)
RULES = f"Pillow {PIL.__version__}, {MIN_SIDE} px to {LIMITS} pixels"  # what makes a picture usable


def open_entry(entry: Entry, background: tuple[int, int, int] = WHITE) -> Image.Image:
    """The picture of an entry, as `open_picture` gives it."""
    return open_picture(io.BytesIO(read_member(entry)) if entry.member else Path(entry.file), background)


def to_tensor(image: Image.Image, size: tuple[int, int]) -> "Tensor":
    """A picture cropped about its centre and resized by area to (width, height): (3, H, W) in [-1, 1]."""
    import torch  # the page reads pictures, too, before it has torch

    if image.size != size:
        shrinking = image.width >= size[0] and image.height >= size[1]
        image = ImageOps.fit(image, size, Image.Resampling.BOX if shrinking else Image.Resampling.BICUBIC)
    pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1)  # (3, H, W) uint8
    return pixels.float() / 127.5 - 1
