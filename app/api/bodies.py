"""The bodies of AUTOMATIC1111's API: what is read of them, and within which bounds; the OpenAPI page says so.

Every other field that the program knows is taken, too, has no effect, and is named in the answer.
"""

from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from models.errors import RequestError
from pipelines.checks import shown
from pipelines.remote_server import PICTURES_AT_ONCE
from pipelines.request import (
    MAX_COUNT,
    MAX_GUIDANCE_SCALE,
    MAX_PROMPT_CHARACTERS,
    MAX_SEED,
    MAX_SIZE_PIXELS,
    MAX_STEPS,
    MAX_STYLES,
    MIN_SIZE_PIXELS,
    SIZE_MULTIPLE_PIXELS,
)
from pipelines.request_parts import (
    MAX_BLUR_PIXELS,
    MAX_PADDING_PIXELS,
    MAX_SCALE,
    MAX_SECOND_STEPS,
    SecondPass,
)

Body = TypeVar("Body", bound=BaseModel)

MAX_NAME_CHARACTERS = 1000
SIZE_BOUNDS = f"A multiple of {SIZE_MULTIPLE_PIXELS}, from {MIN_SIZE_PIXELS} to {MAX_SIZE_PIXELS}."

Prompt = Annotated[str, Field(max_length=MAX_PROMPT_CHARACTERS)]
Name = Annotated[str, Field(max_length=MAX_NAME_CHARACTERS)]
Seed = Annotated[int, Field(ge=-1, le=MAX_SEED)]
Side = Annotated[
    int,
    Field(ge=MIN_SIZE_PIXELS, le=MAX_SIZE_PIXELS, multiple_of=SIZE_MULTIPLE_PIXELS, description=SIZE_BOUNDS),
]
SecondSide = Annotated[int, Field(ge=0, le=MAX_SIZE_PIXELS)]
Steps = Annotated[int, Field(ge=1, le=MAX_STEPS)]
Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Guidance = Annotated[float, Field(ge=0, le=MAX_GUIDANCE_SCALE, allow_inf_nan=False)]
Styles = Annotated[list[Name], Field(max_length=MAX_STYLES)]
NoEffect = Annotated[Any, Field(description="Has no effect.")]
Pictures = Annotated[int, Field(ge=1, le=PICTURES_AT_ONCE)]
Base64 = Annotated[str, Field(description="A picture file in base64, also as a data: URL.")]


class Drawing(BaseModel):
    """What `txt2img` and `img2img` have in common. What is left out or null is as the model draws best."""

    model_config = ConfigDict(extra="allow", title="What is drawn")

    prompt: Prompt = ""
    negative_prompt: Prompt = ""
    styles: Styles | None = None
    seed: Annotated[Seed | None, Field(description="-1: a random one.")] = None
    subseed: Annotated[Seed | None, Field(description="-1: a random one.")] = None
    subseed_strength: Share = 0.0
    sampler_name: Name | None = None
    sampler_index: Annotated[Name | None, Field(description="The older name of sampler_name.")] = None
    scheduler: Name | None = None
    steps: Steps | None = None
    cfg_scale: Guidance | None = None
    width: Side | None = None
    height: Side | None = None
    batch_size: Annotated[Pictures, Field(description="Pictures at a time.")] = 1
    n_iter: Annotated[
        Pictures, Field(description=f"How often; {PICTURES_AT_ONCE} pictures in all at most.")
    ] = 1
    tiling: bool | None = None
    override_settings: Annotated[
        dict[str, Any] | None, Field(description="`sd_model_checkpoint` is followed.")
    ] = None
    send_images: bool = True
    save_images: Annotated[bool, Field(description="Keep the pictures in the history of the page.")] = False


class TextToImage(Drawing):
    """The body of `txt2img`."""

    model_config = ConfigDict(title="txt2img")

    enable_hr: bool = False
    hr_scale: Annotated[float, Field(ge=1, le=MAX_SCALE, allow_inf_nan=False)] = 2.0
    hr_upscaler: Name | None = None
    hr_second_pass_steps: Annotated[int, Field(ge=0, le=MAX_SECOND_STEPS)] = 0
    hr_resize_x: Annotated[SecondSide, Field(description="In the place of hr_scale, where it is not 0.")] = 0
    hr_resize_y: SecondSide = 0
    denoising_strength: Annotated[Share | None, Field(description="Of the second pass.")] = None


class ImageToImage(Drawing):
    """The body of `img2img`."""

    model_config = ConfigDict(title="img2img")

    init_images: Annotated[list[Base64], Field(min_length=1, max_length=1)]
    denoising_strength: Share = 0.75
    mask: Base64 | None = None
    mask_blur: Annotated[int, Field(ge=0, le=MAX_BLUR_PIXELS)] | None = None
    inpainting_fill: Annotated[
        int, Field(ge=0, le=3, description="0 fill, 1 original, 2 latent noise, 3 latent nothing.")
    ] = 0
    inpaint_full_res: Annotated[bool, Field(description="Draw the masked part alone.")] = True
    inpaint_full_res_padding: Annotated[int, Field(ge=0, le=MAX_PADDING_PIXELS)] = 0
    inpainting_mask_invert: Annotated[int, Field(ge=0, le=1)] = 0


class Picture(BaseModel):
    """The body of `png-info`."""

    model_config = ConfigDict(title="png-info")

    image: Base64


class Options(BaseModel):
    """The body of `options`, whose other settings have no effect."""

    model_config = ConfigDict(extra="allow", title="options")

    sd_model_checkpoint: Name | None = None


class ImagesOrder(BaseModel):
    """The body of OpenAI's `images/generations`, for the description; app/api/order.py reads it."""

    model_config = ConfigDict(extra="forbid", title="images/generations")

    prompt: Prompt | None = None
    model: Name | None = None
    n: Pictures | None = None
    size: Annotated[str, Field(pattern="^(auto|[0-9]{1,5}x[0-9]{1,5})$", description=SIZE_BOUNDS)] | None = (
        None
    )
    response_format: Literal["b64_json"] | None = None
    output_format: Literal["png"] | None = None
    stream: bool | None = None
    partial_images: Annotated[int, Field(ge=0, le=MAX_STEPS)] | None = None
    negative_prompt: Prompt | None = None
    steps: Steps | None = None
    guidance_scale: Guidance | None = None
    guidance_start: Share | None = None
    guidance_end: Share | None = None
    sampler: Name | None = None
    schedule: Name | None = None
    seed: Seed | None = None
    variation_seed: Seed | None = None
    variation_strength: Share | None = None
    noise: Literal["cpu", "nv"] | None = None
    instant: bool | None = None
    tiling: bool | None = None
    styles: Styles | None = None
    batch_size: Annotated[int, Field(ge=1, le=MAX_COUNT)] | None = None
    second_pass: SecondPass | None = None
    latent_studio: Annotated[dict[str, Any], Field(description="For another Latent Studio.")] | None = None
    background: NoEffect = None
    moderation: NoEffect = None
    output_compression: NoEffect = None
    quality: NoEffect = None
    style: NoEffect = None
    user: NoEffect = None


def read(kind: type[Body], data: bytes) -> Body:
    """A body as what it should be; RequestError says in a sentence what is wrong with it."""
    try:
        return kind.model_validate_json(data)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        place = ".".join(str(part) for part in first["loc"][:2])
        if first["type"] == "json_invalid":
            raise RequestError("The body is not valid JSON.") from None
        if not place:
            raise RequestError("The body must be a JSON object.") from None
        if first["type"] == "missing":
            raise RequestError(f"The body lacks {place}.") from None
        said = first["msg"].removeprefix("Input ").rstrip(".")
        raise RequestError(f"{place[:100]}: {said}, not {shown(first['input'])}.") from None
