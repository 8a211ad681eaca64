"""Random holes in pictures, for a model that learns to fill them: rectangles and strokes, or all of it."""

import math
from random import Random

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor

WHOLE = 0.1  # of the masks cover everything, so that the model draws from words alone as well
MIN_SHARE, MAX_SHARE = 0.05, 0.75  # of the pixels that the others cover


def random_mask(height: int, width: int, seed: int) -> Tensor:
    """A mask (1, H, W), 1 = to be painted, that `seed` decides: LaMa's kinds (2109.07161), or all of it."""
    random = Random(seed)
    if random.random() < WHOLE:
        return torch.ones(1, height, width)
    wanted = random.uniform(MIN_SHARE, (MIN_SHARE + MAX_SHARE) / 2)
    mask = Image.new("1", (width, height))
    while _share(mask) < wanted:
        tried = mask.copy()
        draw = random.choice((_rectangle, _stroke))
        draw(ImageDraw.Draw(tried), height, width, random)
        if _share(tried) <= MAX_SHARE:
            mask = tried
    return torch.from_numpy(np.array(mask)).float().unsqueeze(0)


def _share(mask: Image.Image) -> float:
    return float(np.asarray(mask).mean())


def _rectangle(draw: ImageDraw.ImageDraw, height: int, width: int, random: Random) -> None:
    wide, high = (random.uniform(0.1, 0.6) * side for side in (width, height))
    # Half of it may hang over an edge: pictures are also continued outwards.
    left, top = random.uniform(-wide / 2, width - wide / 2), random.uniform(-high / 2, height - high / 2)
    draw.rectangle((left, top, left + wide, top + high), fill=1)


def _stroke(draw: ImageDraw.ImageDraw, height: int, width: int, random: Random) -> None:
    """A bent line with round joints, as a brush leaves it."""
    side = min(height, width)
    thickness = max(1, round(random.uniform(0.04, 0.16) * side))
    x, y, angle = random.uniform(0, width), random.uniform(0, height), random.uniform(0, math.tau)
    points = [(x, y)]
    for _ in range(random.randint(1, 5)):
        angle += random.uniform(-math.pi / 2, math.pi / 2)
        length = random.uniform(0.1, 0.4) * side
        x, y = x + length * math.cos(angle), y + length * math.sin(angle)
        points.append((x, y))
    draw.line(points, fill=1, width=thickness)
    for x, y in points:
        draw.circle((x, y), thickness / 2, fill=1)
