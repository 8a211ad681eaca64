"""Colours by name: those of plain backgrounds, and what one would call the colours of a picture."""

from collections import Counter

import numpy as np
from PIL import Image, ImageCms

# Names are given in captions, values are sRGB.
BACKGROUNDS: dict[str, tuple[int, int, int]] = {
    "red": (214, 69, 65),
    "orange": (243, 156, 63),
    "yellow": (250, 215, 92),
    "green": (88, 175, 96),
    "blue": (74, 134, 214),
    "purple": (146, 97, 196),
    "pink": (246, 168, 196),
    "brown": (139, 99, 72),
    "grey": (150, 154, 160),
    "black": (26, 26, 30),
}
# More of what goes by the same names, so that the nearest one has the name that people would say.
SHADES: dict[str, tuple[tuple[int, int, int], ...]] = {
    "red": ((190, 25, 50), (221, 46, 68), (150, 20, 30), (240, 60, 50), (235, 75, 85)),
    "orange": ((255, 130, 20), (240, 100, 30)),
    "yellow": ((255, 204, 77), (255, 235, 60), (255, 190, 30), (250, 225, 150)),
    "green": ((60, 130, 50), (140, 200, 60), (30, 90, 50), (170, 220, 140)),
    "blue": ((85, 172, 238), (30, 80, 160), (30, 45, 110), (160, 210, 245), (60, 190, 210)),
    "purple": ((100, 50, 140), (190, 150, 220)),
    "pink": ((244, 90, 170), (255, 200, 210), (240, 130, 160)),
    "brown": ((102, 70, 45), (190, 135, 90), (75, 45, 35), (193, 105, 79)),
    "grey": ((102, 110, 120), (190, 195, 200)),
    "black": ((50, 50, 55),),
    "white": ((255, 255, 255), (235, 238, 240)),
}
LAB = ImageCms.buildTransform(ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), "RGB", "LAB")
LEAST_SHARE = 0.22  # of the opaque pixels, of a colour that is worth a word


def dominant(icon: Image.Image) -> list[str]:
    """At most two names for what most opaque pixels of an RGBA picture look like, the larger share first."""
    some = np.asarray(icon)[::2, ::2]  # (h, w, 4)
    pixels = some[some[..., 3] > 200, :3]  # (N, 3)
    nearest = np.square(_lab(pixels)[:, None] - VALUES).sum(-1).argmin(1)  # (N,)
    counts = Counter(NAMES[index] for index in nearest)
    return [name for name, count in counts.most_common(2) if count >= LEAST_SHARE * len(pixels)]


def _lab(colours: np.ndarray) -> np.ndarray:
    """CIELAB coordinates, where distances are as people see them, of sRGB colours (N, 3)."""
    picture = Image.fromarray(colours.astype(np.uint8)[None])
    lab = np.asarray(ImageCms.applyTransform(picture, LAB))[0]  # L of 255, and a and b as signed bytes
    return np.concatenate([lab[:, :1] * (100 / 255), lab[:, 1:].astype(np.int8)], 1).astype(np.float32)


SHADES_BY_NAME = [
    *BACKGROUNDS.items(),
    *((name, value) for name, values in SHADES.items() for value in values),
]
NAMES = [name for name, _ in SHADES_BY_NAME]
VALUES = _lab(np.array([value for _, value in SHADES_BY_NAME]))  # (K, 3)
