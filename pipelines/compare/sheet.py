"""The pictures of a comparison on one sheet, every row and column with its value."""

import textwrap
from collections.abc import Mapping, Sequence

from PIL import Image, ImageDraw, ImageFont

from pipelines.compare.axes import Axis

MARGIN_PIXELS, MIN_CELL_PIXELS, MAX_SHEET_PIXELS = 8, 96, 12_000
TEXT_PIXELS, MAX_LABEL_CHARACTERS = 16, 60
INK, PAPER, MISSING = "#1c1d1f", "white", "#e9e9e6"


def compose(
    pictures: Mapping[tuple[int, ...], Image.Image], axes: Sequence[Axis], names: Mapping[str, str]
) -> Image.Image:
    """A sheet of what is drawn so far; the first axis goes right, the second down, the third block by block.

    `names` are the words for the axes' fields. Places without a picture are grey. A sheet that would be
    larger than MAX_SHEET_PIXELS a side is made of smaller pictures.
    """
    columns, rows, blocks = ([len(axis.values) for axis in axes] + [1, 1])[:3]
    widest = max((picture.width for picture in pictures.values()), default=MIN_CELL_PIXELS)
    highest = max((picture.height for picture in pictures.values()), default=MIN_CELL_PIXELS)
    scale = max(1, -(-MIN_CELL_PIXELS // min(widest, highest)))
    shrink = min(
        1.0,
        MAX_SHEET_PIXELS / (columns * widest * scale),
        MAX_SHEET_PIXELS / (rows * blocks * highest * scale),
    )
    cell_width, cell_height = (max(8, int(side * scale * shrink)) for side in (widest, highest))
    font = ImageFont.load_default(TEXT_PIXELS)
    line = TEXT_PIXELS + MARGIN_PIXELS

    def label(axis: int, index: int) -> str:
        words = f"{names.get(axes[axis].field, axes[axis].field)}: {axes[axis].label(index)}"
        return textwrap.shorten(words, MAX_LABEL_CHARACTERS, placeholder="\N{HORIZONTAL ELLIPSIS}")

    sides = [label(1, row) for row in range(rows)] if len(axes) > 1 else []
    left = max((int(font.getlength(words)) for words in sides), default=0) + (
        2 * MARGIN_PIXELS if sides else 0
    )
    tops = [_wrapped(label(0, column), cell_width, font) for column in range(columns)]
    top = max(len(words) for words in tops) * line + MARGIN_PIXELS
    title = line if len(axes) > 2 else 0
    block_height = title + top + rows * (cell_height + MARGIN_PIXELS)
    width = left + columns * (cell_width + MARGIN_PIXELS) + MARGIN_PIXELS
    sheet = Image.new("RGB", (width, blocks * block_height + MARGIN_PIXELS), PAPER)
    pen = ImageDraw.Draw(sheet)
    for block in range(blocks):
        y = block * block_height
        if title:
            pen.text((MARGIN_PIXELS, y + MARGIN_PIXELS // 2), label(2, block), INK, font)
        for column, words in enumerate(tops):
            x = left + MARGIN_PIXELS + column * (cell_width + MARGIN_PIXELS)
            for number, part in enumerate(words):
                middle = x + (cell_width - font.getlength(part)) / 2
                pen.text((middle, y + title + MARGIN_PIXELS + number * line), part, INK, font)
        for row in range(rows):
            down = y + title + top + row * (cell_height + MARGIN_PIXELS)
            if sides:
                pen.text((MARGIN_PIXELS, down + (cell_height - TEXT_PIXELS) / 2), sides[row], INK, font)
            for column in range(columns):
                x = left + MARGIN_PIXELS + column * (cell_width + MARGIN_PIXELS)
                picture = pictures.get((column, row, block)[: len(axes)])
                if picture is None:
                    pen.rectangle((x, down, x + cell_width - 1, down + cell_height - 1), MISSING)
                else:
                    size = (int(picture.width * scale), int(picture.height * scale))
                    # Pixels stay pixels where a small picture is enlarged.
                    how = Image.Resampling.NEAREST if scale >= 1 else Image.Resampling.LANCZOS
                    sheet.paste(picture.convert("RGB").resize(size, how), (x, down))
    return sheet


def _wrapped(words: str, width: int, font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> list[str]:
    """A label in as many lines as a width needs; what has no spaces is cut anywhere."""
    lines = [""]
    for word in words.split(" "):
        longer = f"{lines[-1]} {word}".strip()
        if font.getlength(longer) <= width or not lines[-1]:
            lines[-1] = longer
        else:
            lines.append(word)
    cut = []
    for one in lines:
        while font.getlength(one) > width and len(one) > 1:
            end = next(n for n in range(len(one) - 1, 0, -1) if n == 1 or font.getlength(one[:n]) <= width)
            cut.append(one[:end])
            one = one[end:]
        cut.append(one)
    return cut
