"""What `generate` is told of pictures and of a second pass, as parts of a request."""

import argparse
import io
import math
from typing import Any

from app.settings import Settings
from models.defaults import GenerationDefaults, pixels_a_latent
from models.errors import RequestError
from models.parts import part_config
from pipelines.request import SIZE_MULTIPLE_PIXELS, drawing_size
from pipelines.request_control import ControlInput
from pipelines.request_parts import ImageInput

NEEDS_IMAGE = ("strength", "mask", "mask_blur", "mask_padding", "only_masked", "fill", "extend")
NOT_READ = "0" * 64  # in the place of a sha256, until the file is read
CONTROL = ("control_preprocessor", "control_scale", "control_start", "control_end")
SECOND_PASS = ("second_pass_strength", "second_pass_steps", "upscaler")


def read_parts(args: argparse.Namespace, defaults: GenerationDefaults) -> tuple[dict[str, Any], list[bytes]]:
    """The options `image`, `second_pass` and `controls`, the size that follows, and the pictures to store.

    Writes nothing. Raises RequestError for pictures that cannot be read and options that need another one.
    """
    options: dict[str, Any] = {}
    if args.second_pass is not None:
        given = {"strength": args.second_pass_strength, "steps": args.second_pass_steps}
        given |= {"scale": args.second_pass, "upscaler": args.upscaler}
        options["second_pass"] = {name: value for name, value in given.items() if value is not None}
    else:
        _refuse(args, SECOND_PASS, "--second-pass")
    options["controls"], data = _read_control(args)
    if args.image is None:
        _refuse(args, NEEDS_IMAGE, "--image")
        return options, data
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
    start = read_picture(args.image)
    data.append(start)
    image["picture"] = name_of(start)
    if args.mask is not None:
        data.append(read_mask(args.mask))
        image["mask"] = name_of(data[-1])
    options["image"] = image
    if args.width is None and args.height is None and not args.only_masked:
        with Image.open(io.BytesIO(start)) as picture:
            width, height = picture.size
        if args.extend is not None and len(args.extend) == 4:
            left, top, right, bottom = args.extend
            width, height = max(1, width + left + right), max(1, height + top + bottom)
        multiple = math.lcm(SIZE_MULTIPLE_PIXELS, pixels_a_latent(part_config(args.model, "vae")))
        native = (defaults.width, defaults.height)
        options["width"], options["height"] = drawing_size((width, height), native, multiple)
    return options, data


def _read_control(args: argparse.Namespace) -> tuple[list[dict[str, Any]] | None, list[bytes]]:
    """The option `controls` and the picture to store."""
    if args.control is None:
        _refuse(args, ("control_image", *CONTROL), "--control")
        return None, []
    if args.control_image is None:
        raise RequestError("--control needs --control-image.")
    if not args.control_image.is_file():
        raise RequestError(f"There is no picture {args.control_image}.")
    given = {name.removeprefix("control_"): getattr(args, name) for name in CONTROL}
    control = {"controlnet": args.control} | {k: value for k, value in given.items() if value is not None}
    ControlInput.from_dict(control | {"picture": NOT_READ})
    Settings.from_environment().controlnets.find(args.control)
    try:
        from pipelines.inputs import name_of, read_picture
    except ImportError:  # before the set-up, after which all this is asked again
        return None, []
    data = read_picture(args.control_image)
    return [control | {"picture": name_of(data)}], [data]


def _refuse(args: argparse.Namespace, names: tuple[str, ...], without: str) -> None:
    for name in names:
        if getattr(args, name) is not None:
            raise RequestError(f"--{name.replace('_', '-')} needs {without}.")
