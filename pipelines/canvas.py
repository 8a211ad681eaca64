"""The picture that a request starts from, at the size it is drawn at, and the way back into it."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps
from scipy import ndimage
from torch import Tensor

from models.errors import RequestError
from pipelines.inputs import InputStore
from pipelines.request_parts import ImageInput

WHITE_FROM = 128  # what counts as painted in a mask with greys
Box = tuple[int, int, int, int]  # left, top, right, bottom
Mask = NDArray[np.bool_]
Bytes = NDArray[Any]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Canvas:
    """What is drawn on: pixels (1, 3, H, W) in [-1, 1], and a mask (1, 1, H, W), 1 where they are painted.

    The pixels are the `box` of the `whole` picture; `edge` is how much of what is drawn is seen there.
    Without a mask all of the picture is painted.
    """

    pixels: Tensor
    mask: Tensor | None
    whole: Image.Image
    box: Box
    edge: Image.Image | None

    def paste(self, drawn: Image.Image) -> Image.Image:
        """The whole picture with what was drawn in it; outside the mask it is as it was, to the bit."""
        if self.edge is None:
            return drawn
        size = (self.box[2] - self.box[0], self.box[3] - self.box[1])
        if drawn.size != size:
            drawn = drawn.resize(size, Image.Resampling.LANCZOS)
        picture = self.whole.copy()
        picture.paste(drawn, self.box[:2], self.edge.crop(self.box))
        return picture


def open_canvas(image: ImageInput, width: int, height: int, inputs: InputStore) -> Canvas:
    """The canvas of a request of this size; RequestError where a picture is missing or its mask is empty."""
    whole = inputs.open(image.picture).convert("RGB")
    if not image.paints_a_part:
        whole = ImageOps.fit(whole, (width, height), Image.Resampling.LANCZOS)
        box = (0, 0, width, height)
        return Canvas(pixels=to_pixels(np.asarray(whole)), mask=None, whole=whole, box=box, edge=None)
    painted = Image.new("L", whole.size)
    if image.mask is not None:
        painted = inputs.open(image.mask).convert("L").resize(whole.size, Image.Resampling.NEAREST)
    whole, painted, new = _extended(whole, painted, image.extend)
    if not image.only_masked:
        nearest = Image.Resampling.NEAREST
        whole = ImageOps.fit(whole, (width, height), Image.Resampling.LANCZOS)
        painted, new = (ImageOps.fit(part, (width, height), nearest) for part in (painted, new))
    mask = np.asarray(painted) >= WHITE_FROM  # (h, w)
    if not mask.any():
        raise RequestError("The mask is empty: paint over what is to be drawn anew.")
    box = (0, 0, *whole.size)
    if image.only_masked:
        box = _around(mask, image.mask_padding, width / height)
    size = (width, height)
    seen = whole.crop(box).resize(size, Image.Resampling.LANCZOS)
    drawn_mask = np.asarray(painted.crop(box).resize(size, Image.Resampling.NEAREST)) >= WHITE_FROM
    # Where there never was a picture, the original is what lies nearest.
    hole = drawn_mask if image.fill == "fill" else np.asarray(new.crop(box).resize(size)) >= WHITE_FROM
    return Canvas(
        pixels=to_pixels(_bled(np.asarray(seen), hole)),
        mask=torch.from_numpy(drawn_mask.astype(np.float32))[None, None],
        whole=whole,
        box=box,
        edge=Image.fromarray(_soft_edge(mask, image.mask_blur)),
    )


def _extended(
    whole: Image.Image, painted: Image.Image, sides: Box
) -> tuple[Image.Image, Image.Image, Image.Image]:
    """A picture and its mask with more room on the four sides; and a mask of the new room alone."""
    left, top, right, bottom = sides
    size = (whole.width + left + right, whole.height + top + bottom)
    new = Image.new("L", size, 255)
    new.paste(0, (left, top, left + whole.width, top + whole.height))
    larger, mask = Image.new("RGB", size), new.copy()
    larger.paste(whole, (left, top))
    mask.paste(painted, (left, top))
    return larger, mask, new


def _around(mask: Mask, padding: int, ratio: float) -> Box:
    """The box of a mask and `padding` pixels around it, of the width to height ratio where there is room."""
    height, width = mask.shape
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    left, right = max(0, int(columns[0]) - padding), min(width, int(columns[-1]) + 1 + padding)
    top, bottom = max(0, int(rows[0]) - padding), min(height, int(rows[-1]) + 1 + padding)
    wide = min(width, max(right - left, round((bottom - top) * ratio)))
    high = min(height, max(bottom - top, round((right - left) / ratio)))
    left = min(max(0, (left + right - wide) // 2), width - wide)
    top = min(max(0, (top + bottom - high) // 2), height - high)
    return left, top, left + wide, top + high


def _soft_edge(mask: Mask, blur_pixels: int) -> Bytes:
    """How much of the drawing is seen, 0 to 255: nothing outside the mask, all of it `blur_pixels` inside."""
    if mask.all():
        return np.full(mask.shape, 255, np.uint8)
    inside = ndimage.distance_transform_edt(mask)  # 1 on the first pixel of the mask
    edge: Bytes = np.round(np.minimum(1, inside / (blur_pixels + 1)) * 255).astype(np.uint8)
    return edge


def _bled(pixels: Bytes, hole: Mask) -> Bytes:
    """A picture (H, W, 3) whose hole (H, W) has the colours around it, smoothed; grey if all is hole."""
    if not hole.any():
        return pixels
    if hole.all():
        return np.full_like(pixels, 128)
    rows, columns = ndimage.distance_transform_edt(hole, return_distances=False, return_indices=True)
    nearest = pixels[rows, columns]  # (H, W, 3)
    sigma = max(hole.shape) / 32
    smooth = ndimage.gaussian_filter(nearest.astype(np.float32), (sigma, sigma, 0))
    return np.where(hole[..., None], np.round(smooth), pixels).astype(np.uint8)


def to_pixels(pixels: Bytes) -> Tensor:
    """(H, W, 3) bytes to (1, 3, H, W) in [-1, 1]."""
    return torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None].float() / 127.5 - 1
