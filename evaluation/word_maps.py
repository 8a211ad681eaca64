"""Whether words look where they should: on real pictures, the thing's at it, the background's beside it.

`python -m evaluation.word_maps --model checkpoints/starter --data data/starter`
"""

import argparse
import json
from dataclasses import dataclass
from pathlib import Path
from random import Random

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from evaluation.intervals import proportion
from models.errors import DataError
from models.folder import load_model
from models.latent_diffusion import LatentDiffusionModel
from models.text_encoder import TextEncoder
from pipelines.inside.words import words_of, words_of_picture
from training.data import colours

PICTURES = 300
SIZE, SMALL = 128, 96  # pixels of a picture, and of the thing on one with a coloured background
WHITE_THING = (8, 8, 120, 120)  # its box on white, where it is larger
COLOUR_THING = (16, 16, 112, 112)


@dataclass(frozen=True, slots=True)
class OnColour:
    """A real picture of one thing on a colour that its caption names, and the same thing on white."""

    file: Path
    on_white: Path
    caption: str
    concept: str
    background: str

    def pixels(self) -> Tensor:
        """The picture (1, 3, H, W) in [-1, 1]."""
        return torch.from_numpy(_read(self.file)).permute(2, 0, 1)[None].float() / 127.5 - 1

    def alpha(self) -> Tensor:
        """How opaque the thing is at each pixel, (H, W) in [0, 1].

        By triangulation of its two pictures (Smith & Blinn 1996): a W + (1 - a) white and a W + (1 - a)
        colour differ by (1 - a) (white - colour). The one on white is brought to the other's size first.
        """
        white, colour = np.full(3, 255.0), np.array(colours.BACKGROUNDS[self.background], dtype=float)
        with Image.open(self.on_white) as picture:
            larger = picture.convert("RGB").crop(WHITE_THING)
            on_white = np.asarray(larger.resize((SMALL, SMALL), Image.Resampling.BOX), dtype=float)
        left, top, right, bottom = COLOUR_THING
        on_colour = _read(self.file)[top:bottom, left:right]
        through = ((on_white - on_colour) @ (white - colour)) / ((white - colour) @ (white - colour))
        alpha = torch.zeros(SIZE, SIZE)
        alpha[top:bottom, left:right] = torch.from_numpy(1 - through).float().clamp(0, 1)
        return alpha


def read_on_colours(folder: Path) -> tuple[list[OnColour], list[OnColour]]:
    """The pictures that are judged, and the others, on which what is shown may be chosen.

    Dealt by a shuffle with a fixed seed. Raises DataError for a folder that is no starter dataset.
    """
    try:
        lines = (folder / "metadata.jsonl").read_text(encoding="utf-8").splitlines()
        rows = [json.loads(line) for line in lines]
        found = [
            OnColour(
                folder / row["file_name"],
                folder / row["file_name"].replace(f"-on-{row['background']}.png", ".png"),
                row["text"],
                row["concepts"][0],
                row["background"],
            )
            for row in rows
            if row["background"] != "white"
        ]
    except (OSError, ValueError, KeyError, IndexError, TypeError) as error:
        raise DataError(
            f"{folder} is no starter dataset; build one: `python launch.py data starter --output {folder}`"
        ) from error
    found.sort(key=lambda picture: picture.file)
    Random(0).shuffle(found)
    return found[:PICTURES], found[PICTURES:]


def places(encoder: TextEncoder, picture: OnColour) -> tuple[slice, slice]:
    """Which words of a caption, `apple on a red background, noto style`, are the thing's and the colour's."""
    thing = len(words_of(encoder, picture.concept))
    return slice(0, thing), slice(thing + 2, thing + 4)


def more_inside(maps: Tensor, alpha: Tensor) -> Tensor:
    """How much higher the mean of maps (W, h, w) is inside than outside a thing of alpha (H, W); (W,)."""
    large = F.interpolate(maps[None], alpha.shape, mode="bilinear")[0]  # (W, H, W)
    inside = (large * alpha).sum((1, 2)) / alpha.sum()
    outside = (large * (1 - alpha)).sum((1, 2)) / (1 - alpha).sum()
    return inside - outside


def measure(model: LatentDiffusionModel, pictures: list[OnColour]) -> tuple[Tensor, Tensor]:
    """Of each picture (N,) whether the thing's words look inside it, and whether the background's outside."""
    encoder = model.text_encoder
    assert isinstance(encoder, TextEncoder)
    things, backgrounds = [], []
    for picture in tqdm(pictures, unit="picture", leave=False):
        _, maps = words_of_picture(model, picture.pixels(), picture.caption)
        thing, background = places(encoder, picture)
        together = torch.stack([maps[thing].sum(0), maps[background].sum(0)])  # (2, h, w)
        differences = more_inside(together, picture.alpha())
        things.append(bool(differences[0] > 0))
        backgrounds.append(bool(differences[1] < 0))
    return torch.tensor(things), torch.tensor(backgrounds)


def main() -> None:
    """Print the share of pictures for each, with its 95% interval."""
    parser = argparse.ArgumentParser(description="Whether the words of captions look where they should.")
    parser.add_argument("--model", type=Path, default=Path("checkpoints/starter"))
    parser.add_argument("--data", type=Path, required=True)
    args = parser.parse_args()
    judged, _ = read_on_colours(args.data)
    things, backgrounds = measure(load_model(args.model), judged)
    for what, hits in (
        ("the thing's words look at it", things),
        ("the background's words look beside it", backgrounds),
        ("both", things & backgrounds),
    ):
        print(f"{what}: {proportion(hits)} of {len(hits)} pictures")


def _read(file: Path) -> np.ndarray:
    with Image.open(file) as picture:
        return np.asarray(picture.convert("RGB")).astype(float)


if __name__ == "__main__":
    main()
