"""An order in AUTOMATIC1111's words as a GenerationRequest of ours, and what of it has no effect here."""

import base64
import binascii
import io
from collections.abc import Sequence
from typing import Any

from PIL import Image, ImageOps

from app.api.bodies import Drawing, ImageToImage, TextToImage
from app.cards import ModelCard
from models.errors import RequestError
from pipelines.checks import check_whole, shown
from pipelines.inputs import InputStore, read_mask, read_picture
from pipelines.metadata.names import sampler_options
from pipelines.remote_server import PICTURES_AT_ONCE
from pipelines.request import MAX_SIZE_PIXELS, MIN_SIZE_PIXELS, GenerationRequest
from pipelines.request_parts import FILLS, ImageInput, SecondPass
from pipelines.samplers import canonical_sampler, split_fused_name

CHECKPOINT = "sd_model_checkpoint"
FILL_NUMBERS = ("fill", "original", "latent noise", "latent nothing")
assert sorted(FILL_NUMBERS) == sorted(FILLS)


def model_of(body: Drawing) -> str | None:
    """The model that an order asks for, in its own words."""
    name = (body.override_settings or {}).get(CHECKPOINT)
    if name is not None and not isinstance(name, str):
        raise RequestError(f"{CHECKPOINT} must be the name of a model, not {shown(name)}.")
    return name or None


def find_model(name: str, models: Sequence[ModelCard]) -> ModelCard:
    """The model of this name, however its title is written; RequestError says which there are."""
    wanted = name.rpartition(" [")[0] or name
    wanted = wanted.removesuffix(".safetensors").removesuffix(".ckpt").casefold()
    for card in models:
        if card.name.casefold() == wanted:
            return card
    there = ", ".join(card.name for card in models) or "none"
    raise RequestError(f"The model {shown(name)} is not here; there is {there}.")


def ignored(body: Drawing) -> list[str]:
    """The fields that were set, to something else than off, and have no effect."""
    left = [name for name, value in (body.model_extra or {}).items() if value]
    overridden = body.override_settings or {}
    return sorted(left) + sorted(f"override_settings.{name}" for name in overridden if name != CHECKPOINT)


def read_order(body: Drawing, card: ModelCard, inputs: InputStore) -> GenerationRequest:
    """The request, its seeds known and its pictures kept; RequestError says what is wrong."""
    count = body.batch_size * body.n_iter
    check_whole("batch_size times n_iter", count, 1, PICTURES_AT_ONCE)
    options: dict[str, Any] = {
        "prompt": body.prompt,
        "negative_prompt": body.negative_prompt,
        "styles": body.styles or (),
        "seed": body.seed,
        "variation_seed": body.subseed,
        "variation_strength": body.subseed_strength,
        "steps": body.steps,
        "guidance_scale": body.cfg_scale,
        "width": body.width,
        "height": body.height,
        "tiling": body.tiling,
        "count": count,
        "batch_size": body.batch_size,
        **_sampler(body, card),
    }
    if isinstance(body, TextToImage) and body.enable_hr:
        width = body.width or card.defaults.width
        options["second_pass"] = _second_pass(body, width, body.height or card.defaults.height)
    if isinstance(body, ImageToImage):
        options["image"] = _image(body, inputs)
    return GenerationRequest.from_options(options, card.defaults).resolve()


def _sampler(body: Drawing, card: ModelCard) -> dict[str, str]:
    """Sampler and schedule, also in the older, fused spelling; nothing where neither is named."""
    wanted = (body.scheduler or "").replace("_", " ").strip()
    if wanted.casefold() in ("", "automatic"):  # as clients write that they have no wish
        wanted = ""
    named = body.sampler_name or body.sampler_index
    if not named and not wanted:
        return {}
    name, fused = split_fused_name(named or card.defaults.sampler)
    options, left = sampler_options(name, wanted or fused or "Automatic")
    if not options:
        canonical_sampler(name)  # which says what there is
    if left and "taken as" not in left["Schedule"]:
        raise RequestError(
            f"The sampler {options['sampler']} does not take the schedule {shown(wanted or fused)}; "
            "leave it out."
        )
    return options


def _second_pass(body: TextToImage, width: int, height: int) -> SecondPass:
    scale = body.hr_scale
    if body.hr_resize_x or body.hr_resize_y:
        for name in ("hr_resize_x", "hr_resize_y"):
            if getattr(body, name):
                check_whole(name, getattr(body, name), MIN_SIZE_PIXELS, MAX_SIZE_PIXELS, " pixels")
        scales = [
            asked / side for asked, side in ((body.hr_resize_x, width), (body.hr_resize_y, height)) if asked
        ]
        if max(scales) - min(scales) > 0.01:
            raise RequestError(
                f"hr_resize_x and hr_resize_y must have the shape of {width}x{height}, or one of them be 0."
            )
        scale = scales[0]
    upscaler = (body.hr_upscaler or "Latent").casefold()
    if not upscaler.startswith("latent") and upscaler != "lanczos":
        raise RequestError(f"hr_upscaler must be Latent or Lanczos, not {shown(body.hr_upscaler)}.")
    return SecondPass(
        scale=scale,
        strength=0.75 if body.denoising_strength is None else body.denoising_strength,
        steps=body.hr_second_pass_steps or None,
        upscaler="Lanczos" if upscaler == "lanczos" else "Latent",
    )


def _image(body: ImageToImage, inputs: InputStore) -> ImageInput:
    picture, mask = read_picture(io.BytesIO(decoded("init_images", body.init_images[0]))), None
    if body.mask:
        mask = read_mask(io.BytesIO(decoded("mask", body.mask)))
        if body.inpainting_mask_invert:
            mask = _inverted(mask)
    return ImageInput(
        picture=inputs.add(picture),
        strength=body.denoising_strength,
        mask=None if mask is None else inputs.add(mask),
        mask_blur=4 if body.mask_blur is None else body.mask_blur,
        only_masked=mask is not None and body.inpaint_full_res,
        mask_padding=body.inpaint_full_res_padding,
        fill="original" if mask is None else FILL_NUMBERS[body.inpainting_fill],  # type: ignore[arg-type]
    )


def _inverted(mask: bytes) -> bytes:
    with Image.open(io.BytesIO(mask), formats=("PNG",)) as image:
        inverted = ImageOps.invert(image.convert("L"))
    return read_mask(inverted)


def decoded(name: str, encoded: str) -> bytes:
    """The bytes of a picture in base64, with or without the head of a data: URL."""
    if encoded.startswith("data:"):
        encoded = encoded.partition(",")[2]
    try:
        data = base64.b64decode("".join(encoded.split()), validate=True)
    except (binascii.Error, ValueError):
        data = b""
    if not data:
        raise RequestError(f"{name} must be a picture file in base64; this is none.")
    return data
