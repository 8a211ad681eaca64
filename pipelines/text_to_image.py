"""From words, and a picture, to pictures: a generator of StepEvents and last a GenerationResult.

Closing it stops the work.

Inference mode decorates the functions that compute: around a yield it would leak to the caller.
"""

import dataclasses
import functools
import itertools
import math
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import AbstractContextManager, closing, nullcontext
from functools import partial
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from models.autoencoder import Autoencoder
from models.denoiser import Denoiser
from models.errors import StudioError
from models.folder import LatentDiffusionModel
from models.image_condition import no_picture
from models.text_encoder import TextStates
from pipelines.canvas import open_canvas
from pipelines.inputs import InputStore
from pipelines.noise import DrawFrom, Noise
from pipelines.prompt.conditions import (
    Composition,
    Condition,
    Conditions,
    conditions,
    literal,
    read_negative,
    read_prompt,
)
from pipelines.prompt.expand import PromptFiles, expand
from pipelines.prompt.lora import LoraTag, take_loras
from pipelines.request import SIZE_MULTIPLE_PIXELS, GenerationRequest, GenerationResult, StepEvent
from pipelines.samplers import SAMPLERS, make_scheduler, noise_level
from pipelines.start import Start, condition_from, enlarged, start_from
from pipelines.state import State
from pipelines.tiles import circular, decode

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
) -> Iterator[StepEvent | GenerationResult]:
    """Draw the pictures of a request, `batch_images` at a time; how they are batched changes none of them.

    `inputs` is where the picture lies that a request starts from. `condition` (1, 1 + C, h, w) is the picture
    that a model with an image condition is shown. Without either such a model paints all of it, or raises
    RequestError where it only enlarges.
    `encode` turns one prompt into its states (1, T, D), the model's own text encoder if None; the latents are
    drawn on the device where these lie. With `files` the prompts are read in the prompt language, with the
    styles and wildcards in them; without, every character is meant as it stands.
    A `state` is where the one picture of a request goes on from, with the steps that are left and without a
    second pass. `adapt` puts the LoRAs of tags into the model while a picture is drawn.
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
    canvas, steps, before = None, request.steps, 0
    if state is not None:
        before = state.steps_before(_scheduler(model, request, steps, steps))
        steps -= before
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
    images: list[Image.Image] = []
    # Undone also when the generator is closed before its end.
    with (
        circular(model.denoiser.unet, request.tiling),
        closing(_batches(pictures, batch_images, adapt)) as batches,
    ):
        for first, batch in batches:

            def guides(asked: int, before: int | None, batch: Sequence[GenerationRequest]) -> dict[str, Any]:
                given = [read(picture.prompt, asked, before) for picture in batch]
                without = [unread(picture.negative_prompt, asked, before) for picture in batch]
                return {"cond": conditions(given, encode), "uncond": conditions(without, encode)}

            sample = partial(
                sample_latents,
                model.denoiser,
                guidance_scale=request.guidance_scale,
                guidance_interval=(request.guidance_start, request.guidance_end),
                first_image=first,
                total_steps=total,
            )
            noise = _noise(batch)
            latents = yield from sample(
                _scheduler(model, request, request.steps, steps),
                noise,
                _shape(model, request.width, request.height),
                **guides(request.steps, None, batch),
                steps_asked=request.steps,
                condition=condition,
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
                drawn = (
                    decode_images(model.autoencoder, latents, request.tiling)
                    if second.upscaler == "Lanczos"
                    else []
                )
                latents = yield from sample(
                    _scheduler(model, request, asked, second.steps_done(request.steps)),
                    _noise(batch),
                    _shape(model, width, height),
                    **guides(asked, request.steps, batch),
                    steps_asked=asked,
                    condition=None
                    if model.image_condition is None
                    else no_picture(model.image_condition, model.autoencoder, height, width),
                    start=enlarged(latents, drawn, size, second.upscaler, model.autoencoder),
                    steps_before=before + steps,
                )
            drawn = decode_images(model.autoencoder, latents, request.tiling)
            images += drawn if canvas is None else [canvas.paste(image) for image in drawn]
    yield GenerationResult(
        images=images,
        request=request,
        model_name=model.name,
        model_id=model.model_id,
        engine=engine,
        seconds=time.perf_counter() - start,
        pictures=pictures,
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


def sample_latents(
    denoiser: Denoiser,
    scheduler: Any,
    noise: Noise,
    shape: tuple[int, int, int],
    cond: Conditions,
    uncond: Conditions,
    guidance_scale: float = 1.0,
    first_image: int = 0,
    dtype: torch.dtype = torch.float32,
    condition: Tensor | None = None,
    start: Start | None = None,
    state: State | None = None,
    steps_before: int = 0,
    total_steps: int | None = None,
    guidance_interval: tuple[float, float] = (0.0, 1.0),
    steps_asked: int | None = None,
) -> Generator[StepEvent, None, Tensor]:
    """Draw a batch of latents of shape (C, h, w) each, yielding once a step; returns them, (B, C, h, w).

    `scheduler` is a diffusers scheduler already set to its steps, predicting epsilon.
    cond and uncond are the states of one prompt for each image, (B, T, D), or of one that they share,
    (1, T, D), as they share the `condition` (1, 1 + C, h, w) of a model with an image condition; or they are
    functions that give the states of each step, which both calls of a sampler with two calls a step get.
    `start` is the picture to start from. With a `state` they are drawn from there, the scheduler being
    without the `steps_before` it. Events count from these, of `total_steps`.
    Guidance acts where the share of the schedule that is over lies in [start, end), the `guidance_interval`;
    the schedule has `steps_asked` steps, of which the last are drawn that start from a picture or a state.
    Elsewhere the conditional prediction stands alone, at half the price (Kynkaanniemi et al. 2404.07724).
    """
    count = len(noise.seeds)
    cond_of, uncond_of = _by_step(cond, count), _by_step(uncond, count)
    device = uncond_of(1).device
    if condition is not None:
        condition = condition.to(device).expand(count, -1, -1, -1)  # (B, 1 + C, h, w)
    steps = scheduler.num_inference_steps
    total = total_steps or steps_before + steps
    drawn = noise.draw(shape)  # (B, C, h, w)
    if state is not None:
        x = state.sample(scheduler).to(dtype).to(device)  # on the CPU first: not every device has float64
        for _ in range(steps_before):  # a stochastic sampler goes on with the noise that it would have had
            noise.draw(shape)
    elif start is not None:
        drawn = drawn.to(device, dtype)
        # A scheduler has its own scale of latents, and its way from there to variance-preserving ones.
        scale = scheduler.scale_model_input(drawn.new_ones(()), scheduler.timesteps[0])
        x = start.noised(drawn, noise_level(scheduler, 0)) / scale
    else:
        x = drawn.to(device, dtype) * float(scheduler.init_noise_sigma)
    if hasattr(scheduler, "noise_sampler"):
        scheduler.noise_sampler = _brownian_noise(scheduler, noise, x)
    calls = len(scheduler.timesteps)
    # A step is one call, two in Heun, DPM2 and DPM++ SDE (their last: one), two in the first of PLMS.
    ends = {call for call in range(calls) if (call + 1) % scheduler.order == 0 or call == calls - 1}
    if scheduler.order == 1 and calls > steps:
        ends.remove(0)
    asked = steps_asked or steps
    guided_from, guided_to = guidance_interval
    step, sigma, sample, seen, denoised = steps_before, 0.0, x, x, x
    for call in range(calls):
        level = noise_level(scheduler, call)
        model_input = scheduler.scale_model_input(x, scheduler.timesteps[call])
        read = step + 1 if start is None else step + 1 - steps_before  # a second pass has its own schedule
        given, without = cond_of(read), uncond_of(read)
        assert isinstance(without, TextStates)
        share_over = (asked - steps + step - steps_before) / asked
        scale = guidance_scale if guided_from <= share_over < guided_to else 1.0
        epsilon = guided_epsilon(denoiser, model_input, level, given, without, scale, condition)
        if start is not None:
            epsilon = start.keep(epsilon, model_input, level)
        if call == 0 or call - 1 in ends:  # what a viewer is shown belongs to the step's first call
            sigma, sample, seen = level, x, model_input
            denoised = model_input * (1 + level**2) ** 0.5 - level * epsilon
        x = _scheduler_step(scheduler, epsilon, call, x, noise)
        if call in ends:
            step += 1
            if not torch.isfinite(x).all():
                raise StudioError(
                    f"The model gave numbers that are not finite (NaN) in step {step} of {total}; "
                    "try a lower guidance scale, and if it stays, the model is damaged."
                )
            yield StepEvent(
                image_index=first_image,
                images=count,
                step=step,
                total=total,
                sigma=sigma,
                latents=seen,
                denoised=denoised,
                sample=sample,
            )
    return x if start is None else start.restore(x)


@torch.inference_mode()
def guided_epsilon(
    denoiser: Denoiser,
    x: Tensor,
    sigma: float,
    cond: Condition,
    uncond: TextStates,
    guidance_scale: float,
    condition: Tensor | None = None,
) -> Tensor:
    """Classifier-free guidance (Ho & Salimans 2207.12598): both predictions in one call of twice the batch.

    The scale counts from the unconditional prediction: 0 is that one alone, 1 the conditional alone. An image
    condition is given to both.
    """
    if guidance_scale == 0:
        return denoiser.epsilon(x, sigma, uncond, condition)
    if isinstance(cond, Composition):
        return _composed_epsilon(denoiser, x, sigma, cond, uncond, guidance_scale, condition)
    if guidance_scale == 1:
        return denoiser.epsilon(x, sigma, cond, condition)
    shown = None if condition is None else torch.cat([condition, condition])
    both = denoiser.epsilon(torch.cat([x, x]), sigma, TextStates.cat([uncond, cond]), shown)  # (2B, C, h, w)
    without, given = both.chunk(2)
    return without + guidance_scale * (given - without)


def _composed_epsilon(
    denoiser: Denoiser,
    x: Tensor,
    sigma: float,
    cond: Composition,
    uncond: TextStates,
    guidance_scale: float,
    condition: Tensor | None,
) -> Tensor:
    """Guidance towards several prompts, each by its weight, in one call (Liu et al. 2206.01714)."""
    of = cond.pictures  # (N,)
    shown = None if condition is None else torch.cat([condition, condition[of]])
    states = TextStates.cat([uncond, cond.states])
    every = denoiser.epsilon(torch.cat([x, x[of]]), sigma, states, shown)  # (B + N, C, h, w)
    without, given = every[: len(x)], every[len(x) :]
    weights = cond.weights.to(x.dtype).view(-1, 1, 1, 1)
    return without.index_add(0, of, guidance_scale * weights * (given - without[of]))


def _by_step(given: Conditions, count: int) -> Callable[[int], Condition]:
    if not isinstance(given, TextStates):
        return given
    states = given.select([0] * count) if len(given) == 1 else given
    return lambda step: states


@torch.inference_mode()
def _scheduler_step(scheduler: Any, epsilon: Tensor, call: int, x: Tensor, noise: Noise) -> Tensor:
    with DrawFrom(noise):
        output: Tensor = scheduler.step(epsilon, scheduler.timesteps[call], x, return_dict=False)[0]
    return output


def _brownian_noise(scheduler: Any, noise: Noise, x: Tensor) -> Callable[[Tensor, Tensor], Tensor]:
    """One Brownian path per image, on the CPU: its increments, scaled to unit variance, are the noise."""
    from diffusers.schedulers.scheduling_dpmsolver_sde import BrownianTreeNoiseSampler

    levels = scheduler.sigmas[scheduler.sigmas > 0]
    with DrawFrom(noise):  # the tree draws its end points now
        # A little wider than the levels, which come back rounded from their logarithms.
        tree = BrownianTreeNoiseSampler(
            x.float().cpu(), float(levels.min()) * 0.999, float(levels.max()) * 1.001, noise.seeds
        )
    return lambda level, following: tree(level, following).to(x.device, x.dtype)


@torch.inference_mode()
def decode_images(autoencoder: Autoencoder, latents: Tensor, seamless: bool = False) -> list[Image.Image]:
    """Turn normalised latents (B, C, h, w) into RGB pictures; StudioError if the decoder gives NaN."""
    dtype = next(autoencoder.parameters()).dtype
    pixels = decode(autoencoder, latents.to(dtype), seamless).float()  # (B, 3, H, W) in about [-1, 1]
    if not torch.isfinite(pixels).all():
        raise StudioError(f"The decoder gave numbers that are not finite (NaN) in {dtype}; try float32.")
    return to_images(pixels)


def to_images(pixels: Tensor) -> list[Image.Image]:
    """(B, 3, H, W) in [-1, 1] to pictures, clamped."""
    bytes_ = ((pixels.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()
    return [Image.fromarray(array) for array in bytes_]
