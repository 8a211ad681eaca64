"""What `generate` is told of a picture to start from and of a second pass, as parts of a request."""

import argparse
import io
import math
from pathlib import Path
from typing import Any

from PIL import Image

from models.defaults import GenerationDefaults, pixels_a_latent
from models.errors import RequestError
from models.weights import read_json
from pipelines.inputs import name_of, read_mask, read_picture
from pipelines.request import SIZE_MULTIPLE_PIXELS, drawing_size

NEEDS_IMAGE = ("strength", "mask", "mask_blur", "mask_padding", "only_masked", "fill", "extend")
SECOND_PASS = ("second_pass_strength", "second_pass_steps", "upscaler")


def read_parts(args: argparse.Namespace, defaults: GenerationDefaults) -> tuple[dict[str, Any], list[bytes]]:
    """The options `image` and `second_pass`, and the size that follows from the picture; and what to store.

    Writes nothing. Raises RequestError for pictures that cannot be read and options that need another one.
    """
    options: dict[str, Any] = {}
    if args.second_pass is not None:
        given = {"strength": args.second_pass_strength, "steps": args.second_pass_steps}
        given |= {"scale": args.second_pass, "upscaler": args.upscaler}
        options["second_pass"] = {name: value for name, value in given.items() if value is not None}
    else:
        _refuse(args, SECOND_PASS, "--second-pass")
    if args.image is None:
        _refuse(args, NEEDS_IMAGE, "--image")
        return options, []
    data = [_existing(args.image, "picture", read_picture)]
    image = {name: getattr(args, name) for name in NEEDS_IMAGE} | {"picture": name_of(data[0])}
    if args.mask is not None:
        data.append(_existing(args.mask, "mask", read_mask))
        image["mask"] = name_of(data[1])
    options["image"] = {name: value for name, value in image.items() if value is not None}
    if args.width is None and args.height is None and not args.only_masked:
        with Image.open(io.BytesIO(data[0])) as picture:
            width, height = picture.size
        if args.extend is not None and len(args.extend) == 4:
            left, top, right, bottom = args.extend
            width, height = max(1, width + left + right), max(1, height + top + bottom)
        multiple = math.lcm(
            SIZE_MULTIPLE_PIXELS, pixels_a_latent(read_json(args.model / "vae" / "config.json"))
        )
        native = (defaults.width, defaults.height)
        options["width"], options["height"] = drawing_size((width, height), native, multiple)
    return options, data


def _existing(file: Path, what: str, read: Any) -> bytes:
    if not file.is_file():
        raise RequestError(f"There is no {what} {file}.")
    data: bytes = read(file)
    return data


def _refuse(args: argparse.Namespace, names: tuple[str, ...], without: str) -> None:
    for name in names:
        if getattr(args, name) is not None:
            raise RequestError(f"--{name.replace('_', '-')} needs {without}.")
