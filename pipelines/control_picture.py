"""The picture that a ControlNet is shown, made of the one that a person gave. No torch."""

import numpy as np
from PIL import Image, ImageOps

from pipelines.request_control import Preprocessor


def control_picture(
    picture: Image.Image,
    preprocessor: Preprocessor,
    size: tuple[int, int],
    whole: tuple[int, int] | None = None,
    box: tuple[int, int, int, int] | None = None,
) -> Image.Image:
    """What a net sees at a drawing of `size` (width, height): the middle of the picture, in its shape.

    Where only the `box` of a picture of the size `whole` is drawn, it is the same part of this one.
    """
    seen = ImageOps.fit(picture.convert("RGB"), whole or size, Image.Resampling.LANCZOS)
    if box is not None:
        seen = seen.crop(box)
    if seen.size != size:
        seen = seen.resize(size, Image.Resampling.LANCZOS)
    if preprocessor == "none":
        return seen
    from pipelines.canny import canny  # and scipy, which a page without edges does without

    return Image.fromarray(np.where(canny(np.asarray(seen)), 255, 0).astype(np.uint8)).convert("RGB")
