"""From words, and a picture, to pictures: a generator of StepEvents and last a GenerationResult.

Closing it stops the work.
"""

import dataclasses
import functools
import itertools
import math
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, closing, nullcontext
from functools import partial
from typing import Any

from PIL import Image
from torch import Tensor, nn

from models.image_condition import no_picture
from models.latent_diffusion import LatentDiffusionModel
from models.text_encoder import TextStates
from pipelines.canvas import Canvas, open_canvas
from pipelines.control import Control, open_guides
from pipelines.decoding import decode_images
from pipelines.inputs import InputStore
from pipelines.memory import Plan
from pipelines.noise import Noise
from pipelines.prompt.conditions import (
    conditions,
    literal,
    read_negative,
    read_prompt,
)
from pipelines.prompt.expand import PromptFiles, expand
from pipelines.prompt.lora import LoraTag, take_loras
from pipelines.request import SIZE_MULTIPLE_PIXELS, GenerationRequest
from pipelines.result import GenerationResult, StepEvent
from pipelines.runners.runner import Runner
from pipelines.samplers import SAMPLERS, make_scheduler
from pipelines.sampling import sample_latents
from pipelines.start import condition_from, enlarged, start_from
from pipelines.state import State
from pipelines.tiles import circular

# Puts the LoRAs of tags into the model, for as long as a `with` lasts.
Adapt = Callable[[Sequence[LoraTag]], AbstractContextManager[None]]


def text_to_image(
    model: LatentDiffusionModel,
    request: GenerationRequest,
    *,
    batch_images: int = 1,
    encode: Callable[[str], TextStates] | None = None,
    engine: str = "torch",
    condition: Tensor | None = None,
    files: PromptFiles | None = None,
    inputs: InputStore | None = None,
    state: State | None = None,
    adapt: Adapt | None = None,
    runner: Runner | None = None,
    note: str = "",
    plan: Plan | None = None,
    nets: Sequence[nn.Module] = (),
) -> Iterator[StepEvent | GenerationResult]:
    """Draw the pictures of a request, `batch_images` at a time; how they are batched changes none of them.

    `inputs` is where the pictures lie that a request starts from or is guided by, `nets` are the ControlNets
    that it names, in its order; torch draws with them. `condition` (1, 1 + C, h, w) is the picture
    that a model with an image condition is shown. Without either such a model paints all of it, or raises
    RequestError where it only enlarges.
    `encode` turns one prompt into its states (1, T, D), the model's own text encoder if None; the latents are
    drawn on the device where these lie. With `files` the prompts are read in the prompt language, with the
    styles and wildcards in them; without, every character is meant as it stands.
    A `state` is where the one picture of a request goes on from, with the steps that are left and without a
    second pass. `adapt` puts the LoRAs of tags into the model while a picture is drawn. A `runner` computes
    the networks in the place of torch. What `note` says of the engine stands on the result. How pictures are
    decoded follows the `plan`, all of a batch at once if None.
    Raises StudioError if the model gives numbers that are not finite.
    """
    start = time.perf_counter()
    if state is not None:  # in which a picture and its mask are already
        request = dataclasses.replace(request, image=None, second_pass=None)
    request = request.resolve()
    encode = encode or functools.cache(lambda prompt: model.text_encoder.encode([prompt]))
    if files is None:
        pictures = tuple(request.for_image(index) for index in range(request.count))
        read = unread = literal
    else:
        pictures, read, unread = expand(request, files), read_prompt, read_negative
    embeddings = "" if files is None else files.embeddings.hashes(pictures)  # as they are now
    steps, before, remembered = request.steps, 0, 0
    canvas: Canvas | None = None
    if state is not None:
        whole = _scheduler(model, request, steps, steps)
        before = state.steps_before(whole)
        steps -= before
        if SAMPLERS[request.sampler].multistep and state.is_of(whole, before):
            remembered = before
    if request.image is not None:
        assert inputs is not None
        canvas = open_canvas(request.image, request.width, request.height, inputs)
        steps = request.image.steps_done(request.steps)
    if condition is None and model.image_condition is not None:
        condition = (
            no_picture(model.image_condition, model.autoencoder, request.height, request.width)
            if canvas is None
            else condition_from(canvas, model.image_condition, model.autoencoder)
        )  # (1, 1 + C, h, w)
    second = request.second_pass
    total = before + steps + (0 if second is None else second.steps_done(request.steps))
    denoiser = model.denoiser if runner is None else model.denoiser.run_by(runner.unet)
    to_images = partial(
        decode_images,
        model.autoencoder,
        seamless=request.tiling,
        plan=plan,
        whole=None if runner is None else runner.decode,
    )

    def control(size: tuple[int, int], canvas: Canvas | None) -> Control | None:
        if not request.controls:
            return None
        assert inputs is not None
        guides = open_guides(request.controls, nets, size, inputs, canvas)
        return Control(model.denoiser.runner, guides)

    first_control = control((request.width, request.height), canvas)
    images: list[Image.Image] = []
    # Undone also when the generator is closed before its end.
    with ExitStack() as stack, closing(_batches(pictures, batch_images, adapt)) as batches:
        for network in (model.denoiser.unet, *nets):
            stack.enter_context(circular(network, request.tiling))
        for first, batch in batches:

            def guides(asked: int, before: int | None, batch: Sequence[GenerationRequest]) -> dict[str, Any]:
                given = [read(picture.prompt, asked, before) for picture in batch]
                without = [unread(picture.negative_prompt, asked, before) for picture in batch]
                return {"cond": conditions(given, encode), "uncond": conditions(without, encode)}

            sample = partial(
                sample_latents,
                denoiser,
                guidance_scale=request.guidance_scale,
                guidance_interval=(request.guidance_start, request.guidance_end),
                first_image=first,
                total_steps=total,
            )
            noise = _noise(batch)
            latents = yield from sample(
                _scheduler(model, request, request.steps, steps + remembered),
                noise,
                _shape(model, request.width, request.height),
                **guides(request.steps, None, batch),
                steps_asked=request.steps,
                condition=condition,
                control=first_control,
                state=state,
                steps_before=before,
                start=None
                if canvas is None or request.image is None
                else start_from(
                    canvas,
                    model.autoencoder,
                    request.image.fill,
                    noise,
                    from_noise=steps == request.steps,
                    conditioned=condition is not None,
                ),
            )
            if second is not None:
                asked = second.steps_asked(request.steps)
                width, height = size = final_size(model, request)
                drawn = to_images(latents) if second.upscaler == "Lanczos" else []
                latents = yield from sample(
                    _scheduler(model, request, asked, second.steps_done(request.steps)),
                    _noise(batch),
                    _shape(model, width, height),
                    **guides(asked, request.steps, batch),
                    steps_asked=asked,
                    condition=None
                    if model.image_condition is None
                    else no_picture(model.image_condition, model.autoencoder, height, width),
                    control=control(size, None),
                    start=enlarged(latents, drawn, size, second.upscaler, model.autoencoder),
                    steps_before=before + steps,
                )
            drawn = to_images(latents)
            images += drawn if canvas is None else [canvas.paste(image) for image in drawn]
    yield GenerationResult(
        images=images,
        request=request,
        model_name=model.name,
        model_id=model.model_id,
        engine=engine,
        note=note,
        seconds=time.perf_counter() - start,
        pictures=pictures,
        embeddings=embeddings,
        vae=("", "") if model.vae is None else (model.vae.name, model.vae.hash),
    )


def final_size(model: LatentDiffusionModel, request: GenerationRequest) -> tuple[int, int]:
    """Width and height in pixels of what is drawn last: by the second pass, where there is one."""
    multiple = math.lcm(SIZE_MULTIPLE_PIXELS, model.autoencoder.downsampling_factor)
    if request.second_pass is None:
        return request.width, request.height
    return request.second_pass.size(request.width, request.height, multiple)


def _batches(
    pictures: Sequence[GenerationRequest], batch_images: int, adapt: Adapt | None
) -> Generator[tuple[int, Sequence[GenerationRequest]]]:
    """What is drawn together, and its first number: neighbours of the same LoRAs, with these in the model."""
    numbers = range(len(pictures))
    for tags, group in itertools.groupby(numbers, lambda number: take_loras(pictures[number].prompt)[1]):
        alike = list(group)
        with nullcontext() if adapt is None else adapt(tags):
            for first in alike[::batch_images]:
                yield first, pictures[first : min(first + batch_images, alike[-1] + 1)]


def _noise(batch: Sequence[GenerationRequest]) -> Noise:
    """The noise of a batch of pictures, each with the request that draws it alone."""
    seeds, others = ([getattr(one, name) for one in batch] for name in ("seed", "variation_seed"))
    return Noise(seeds, batch[0].noise, others, batch[0].variation_strength)


def _scheduler(model: LatentDiffusionModel, request: GenerationRequest, asked: int, done: int) -> Any:
    sampler = SAMPLERS[request.sampler]
    return make_scheduler(sampler, request.schedule, model.denoiser, asked, skip=asked - done)


def _shape(model: LatentDiffusionModel, width: int, height: int) -> tuple[int, int, int]:
    factor = model.autoencoder.downsampling_factor
    return model.autoencoder.latent_channels, height // factor, width // factor
