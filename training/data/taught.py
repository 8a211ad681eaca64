"""A folder to train on from a few pictures of one thing: views of each, with captions that say its name."""

import json
from collections.abc import Sequence
from pathlib import Path
from random import Random

import numpy as np
from PIL import Image

from models.errors import DataError
from models.names import why_no_name
from models.writing import write_bytes
from pipelines.pictures import open_picture
from training.data.captions import with_article

MAX_PICTURES = 20
MAX_NAME_CHARACTERS = 60
VIEWS = 4  # of each picture: as it is, and moved and scaled a little
SCALES = (0.9, 1.05)  # of a view, as a share of the picture
MOST_MOVED = 0.04  # as a share of a side
MARGIN = 0.02  # of a side, whose median colour is the background's


def captions_of(name: str) -> list[str]:
    """What a picture of a thing of this name is called, in the manner of the starter's captions."""
    return list(dict.fromkeys([name, with_article(name)]))


def checked_name(name: str) -> str:
    """A thing's name with single spaces; DataError for one that no tag or file can have."""
    name = " ".join(name.split())
    if not name or len(name) > MAX_NAME_CHARACTERS:
        raise DataError(f"a thing's name has 1 to {MAX_NAME_CHARACTERS} characters, not {len(name)}")
    if bad := [letter for letter in name if not (letter.isalnum() or letter in " -_'")]:
        raise DataError(f"the name {name!r} has {bad[0]!r}; use letters, digits, spaces, - and _")
    if not name[0].isalnum():
        raise DataError(f"the name {name!r} begins with {name[0]!r}; begin with a letter or a digit")
    if reason := why_no_name(name):
        raise DataError(f"{name!r} is no name for a file: {reason}; choose another")
    return name


def write_taught(pictures: Sequence[Path], name: str, folder: Path, side: int) -> None:
    """Write views of 1 to 20 pictures, `side` pixels square, and metadata.jsonl to a folder.

    What is not square gets margins of its background's colour. The pictures as they are make the split
    "validation". Raises DataError naming a picture that cannot be read, or where there are too many.
    """
    if not 1 <= len(pictures) <= MAX_PICTURES:
        raise DataError(f"a thing is taught from 1 to {MAX_PICTURES} pictures, not {len(pictures)}")
    captions, rows = captions_of(name), []
    for number, file in enumerate(pictures, start=1):
        try:
            picture = _squared(open_picture(file), side)
        except DataError as error:
            raise DataError(f"{file}: {error}; leave it out") from error
        random = Random(number)
        views = [picture, *(_moved(picture, random) for _ in range(VIEWS - 1))]
        for view, image in [(0, picture), *enumerate(views, start=1)]:
            place = folder / f"{number:02d}-{view}.png"
            place.parent.mkdir(parents=True, exist_ok=True)
            image.save(place)
            split = "train" if view else "validation"
            rows.append({"file_name": place.name, "captions": captions, "text": name, "split": split})
    lines = [json.dumps(row, ensure_ascii=False) for row in rows]
    write_bytes(folder / "metadata.jsonl", ("\n".join(lines) + "\n").encode())


def _background(picture: Image.Image) -> tuple[int, ...]:
    """The median colour along the edges."""
    pixels = np.asarray(picture)  # (H, W, 3)
    rim = max(1, round(MARGIN * min(picture.size)))
    edges = (pixels[:rim], pixels[-rim:], pixels[:, :rim], pixels[:, -rim:])
    return tuple(np.median(np.concatenate([edge.reshape(-1, 3) for edge in edges]), 0).astype(int).tolist())


def _squared(picture: Image.Image, side: int) -> Image.Image:
    """The whole picture in the middle of a square."""
    square = Image.new("RGB", (side, side), _background(picture))
    scale = side / max(picture.size)
    small = picture.resize([max(1, round(scale * one)) for one in picture.size], Image.Resampling.LANCZOS)
    square.paste(small, ((side - small.width) // 2, (side - small.height) // 2))
    return square


def _moved(picture: Image.Image, random: Random) -> Image.Image:
    """The square picture, scaled and moved a little on its background."""
    side = picture.width
    size = round(random.uniform(*SCALES) * side)
    moved = [round((side - size) / 2 + random.uniform(-MOST_MOVED, MOST_MOVED) * side) for _ in range(2)]
    view = Image.new("RGB", picture.size, _background(picture))
    view.paste(picture.resize((size, size), Image.Resampling.LANCZOS), (moved[0], moved[1]))
    return view
