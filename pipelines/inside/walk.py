"""A walk from one picture to another: between two seeds, two prompts, or both."""

import math
from collections.abc import Iterator, Sequence

import torch
from PIL import Image
from torch import Tensor

from models.errors import RequestError
from models.image_condition import no_picture
from models.text_encoder import TextEncoder, TextStates
from pipelines.decoding import decode_images
from pipelines.local_engine import LocalEngine
from pipelines.noise import Noise
from pipelines.prompt.conditions import Composition, Condition, Conditions, conditions, literal, read_prompt
from pipelines.prompt.lora import take_loras
from pipelines.request import GenerationRequest
from pipelines.result import StepEvent
from pipelines.samplers import SAMPLERS, make_scheduler
from pipelines.sampling import sample_latents


def slerp(first: Tensor, second: Tensor, part: float) -> Tensor:
    """The point a part of the way from one tensor to another on the great circle through both.

    Normal noise of many numbers lies near a sphere; the straight line between two draws of it, at its middle
    weaker by sqrt(2), leaves what the model was trained on (Shoemake 1985, eq. in 3.3).
    """
    cosine = float((first * second).sum() / (first.norm() * second.norm()))
    angle = math.acos(min(max(cosine, -1.0), 1.0))
    if angle < 1e-4:  # the same numbers
        return torch.lerp(first, second, part)
    return (math.sin((1 - part) * angle) * first + math.sin(part * angle) * second) / math.sin(angle)


class NoiseBetween(Noise):
    """The noise of one picture a part of the way from one seed's to another's, in every draw."""

    def __init__(self, first: Noise, second: Noise, part: float) -> None:
        super().__init__(first.seeds, first.kind)
        self._ends, self._part = (first, second), part

    def draw(self, shape: Sequence[int]) -> Tensor:
        """The next numbers: (1, *shape) float32 on the CPU."""
        first, second = (noise.draw(shape) for noise in self._ends)
        return slerp(first, second, self._part)


def walk(
    engine: LocalEngine, request: GenerationRequest, to: GenerationRequest, frames: int
) -> Iterator[StepEvent | list[Image.Image]]:
    """Draw `frames` pictures, the first of one request, the last of another; last yield them in a list.

    The requests differ in prompt and seed alone, and not in LoRA tags. Between two prompts the predictions
    are mixed, each with its share of the way. Raises RequestError as the engine does; closing the iterator
    stops the work.
    """
    for end in (request, to):
        if reason := engine.why_not(end):
            raise RequestError(reason)
    tags = take_loras(request.prompt)[1]
    if tags != take_loras(to.prompt)[1]:
        raise RequestError("Both ends of a walk need the same <lora:...> tags; write them into both prompts.")
    model = engine.model.instant if request.instant else engine.model
    assert model is not None
    assert request.seed is not None
    assert to.seed is not None
    words = isinstance(model.text_encoder, TextEncoder)

    def read(prompt: str) -> Conditions:
        return conditions([(read_prompt if words else literal)(prompt, request.steps)], engine.encode)

    factor = model.autoencoder.downsampling_factor
    condition = None
    if model.image_condition is not None:
        condition = no_picture(model.image_condition, model.autoencoder, request.height, request.width)
    images = []
    with engine.adapt(model, tags):
        ends = read(request.prompt), read(to.prompt)
        for frame in range(frames):
            part = frame / (frames - 1)
            first, last = (Noise([seed], request.noise) for seed in (request.seed, to.seed))
            latents = yield from sample_latents(
                model.denoiser,
                make_scheduler(SAMPLERS[request.sampler], request.schedule, model.denoiser, request.steps),
                NoiseBetween(first, last, part),
                (model.autoencoder.latent_channels, request.height // factor, request.width // factor),
                ends[0] if request.prompt == to.prompt else _between(*ends, part),
                engine.encode(request.negative_prompt),
                request.guidance_scale,
                first_image=frame,
                guidance_interval=(request.guidance_start, request.guidance_end),
                condition=condition,
            )
            images += decode_images(model.autoencoder, latents)
    yield images


def _between(first: Conditions, second: Conditions, part: float) -> Conditions:
    """Both conditions at each step, each weighed by its share."""

    def mixed(step: int) -> Condition:
        states, weights = [], []
        for given, share in ((first, 1 - part), (second, part)):
            condition = given if isinstance(given, TextStates) else given(step)
            of = condition.states if isinstance(condition, Composition) else condition
            own = condition.weights if isinstance(condition, Composition) else of.hidden.new_ones(len(of))
            if share:  # so that the ends are the pictures themselves
                states.append(of)
                weights.append(share * own)
        every = TextStates.cat(states)
        return Composition(every, every.mask.new_zeros(len(every), dtype=torch.long), torch.cat(weights))

    return mixed
