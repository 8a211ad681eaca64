"""Pictures side by side in one PNG."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor


def to_images(pixels: Tensor) -> list[Image.Image]:
    """(B, 3, H, W) in [-1, 1] to pictures, clamped."""
    array = (
        ((pixels.float().clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()
    )
    return [Image.fromarray(np.ascontiguousarray(one)) for one in array]


def save_grid(images: list[Image.Image], path: Path, columns: int) -> None:
    """Write pictures of one size row by row, `columns` to a row."""
    width, height = images[0].size
    sheet = Image.new("RGB", (columns * width, -(-len(images) // columns) * height), "white")
    for index, image in enumerate(images):
        sheet.paste(image, (index % columns * width, index // columns * height))
    sheet.save(path)
