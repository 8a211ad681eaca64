"""What `generate` is told of a picture to start from and of a second pass, as parts of a request."""

import argparse
import io
import math
from typing import Any

from models.defaults import GenerationDefaults, pixels_a_latent
from models.errors import RequestError
from models.parts import part_config
from pipelines.request import SIZE_MULTIPLE_PIXELS, drawing_size
from pipelines.request_parts import ImageInput

NEEDS_IMAGE = ("strength", "mask", "mask_blur", "mask_padding", "only_masked", "fill", "extend")
NOT_READ = "0" * 64  # in the place of a sha256, until the file is read
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
    for file, what in ((args.image, "picture"), (args.mask, "mask")):
        if file is not None and not file.is_file():
            raise RequestError(f"There is no {what} {file}.")
    image = {name: getattr(args, name) for name in NEEDS_IMAGE if getattr(args, name) is not None}
    ImageInput.from_dict(image | {"picture": NOT_READ} | ({"mask": NOT_READ} if args.mask else {}))
    try:
        from PIL import Image

        from pipelines.inputs import name_of, read_mask, read_picture
    except ImportError:  # before the set-up, after which all this is asked again
        return options, []
    data = [read_picture(args.image)]
    image["picture"] = name_of(data[0])
    if args.mask is not None:
        data.append(read_mask(args.mask))
        image["mask"] = name_of(data[1])
    options["image"] = image
    if args.width is None and args.height is None and not args.only_masked:
        with Image.open(io.BytesIO(data[0])) as picture:
            width, height = picture.size
        if args.extend is not None and len(args.extend) == 4:
            left, top, right, bottom = args.extend
            width, height = max(1, width + left + right), max(1, height + top + bottom)
        multiple = math.lcm(SIZE_MULTIPLE_PIXELS, pixels_a_latent(part_config(args.model, "vae")))
        native = (defaults.width, defaults.height)
        options["width"], options["height"] = drawing_size((width, height), native, multiple)
    return options, data


def _refuse(args: argparse.Namespace, names: tuple[str, ...], without: str) -> None:
    for name in names:
        if getattr(args, name) is not None:
            raise RequestError(f"--{name.replace('_', '-')} needs {without}.")
