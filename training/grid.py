"""Pictures side by side in one PNG."""

from collections.abc import Sequence
from pathlib import Path

from PIL import Image


def save_grid(images: Sequence[Image.Image], path: Path, columns: int) -> None:
    """Write pictures of one size row by row, `columns` to a row."""
    width, height = images[0].size
    sheet = Image.new("RGB", (columns * width, -(-len(images) // columns) * height), "white")
    for index, image in enumerate(images):
        sheet.paste(image, (index % columns * width, index // columns * height))
    sheet.save(path)
