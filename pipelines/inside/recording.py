"""A picture drawn again, and everything that happened meanwhile."""

import copy
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace

import torch
from PIL import Image
from torch import Tensor

from models.defaults import LatentPreview
from models.text_encoder import TextEncoder
from pipelines.inside.attention import AttentionRunner
from pipelines.inside.words import Word, word_maps, words_of
from pipelines.local_engine import LocalEngine
from pipelines.prompt.conditions import read_prompt
from pipelines.prompt.schedule import text_at
from pipelines.request import GenerationRequest
from pipelines.result import GenerationResult, StepEvent
from pipelines.state import State


@dataclass(frozen=True, slots=True, eq=False)
class Reading:
    """A text that guided some steps of a drawing: its words and, step by step, their maps (S, W, h, w).

    The map of a word says which share of its attention each place gives to the word.
    """

    text: str
    words: list[Word]
    steps: tuple[int, ...]
    maps: Tensor


@dataclass(frozen=True, slots=True, eq=False)
class Recording:
    """A drawing of one picture: the steps it took, in order, and what was read at which of them.

    `preview` shows latents of its model. `readings` are empty where no words are read: with guidance 0, and
    by models that draw classes.
    """

    result: GenerationResult
    preview: LatentPreview | None
    events: tuple[StepEvent, ...]
    readings: tuple[Reading, ...]

    @property
    def request(self) -> GenerationRequest:
        """What was drawn, with the words it was drawn from."""
        return self.result.pictures[0]

    @property
    def image(self) -> Image.Image:
        """The picture."""
        return self.result.images[0]

    def event(self, step: int) -> StepEvent:
        """The step of this number, or the nearest there is."""
        return min(self.events, key=lambda event: abs(event.step - step))


def record(
    engine: LocalEngine, request: GenerationRequest, state: State | None = None
) -> Iterator[StepEvent | Recording]:
    """Draw the first picture of a request again, on torch in float32, and last yield the Recording.

    With a `state` it goes on from there: a branch. Closing the iterator stops the work.
    Raises RequestError as the engine does.
    """
    request = request.resolve().for_image(0)
    watched, runner = engine.on_torch(), None
    model = engine.model.instant if request.instant else engine.model
    if model is not None and isinstance(model.text_encoder, TextEncoder) and request.guidance_scale != 0:
        denoiser = copy.copy(model.denoiser)
        denoiser.runner = runner = AttentionRunner(denoiser.unet)
        denoiser.unet = runner.unet
        own = replace(model, denoiser=denoiser)
        watched.model = replace(engine.model, instant=own) if request.instant else own
    events: list[StepEvent] = []
    maps: list[Tensor] = []  # (prompts, T, h, w) of each step
    with closing(watched.generate(request, state)) as drawing:
        for item in drawing:
            if isinstance(item, StepEvent):
                events.append(item)
                if runner is not None:
                    every = runner.take()  # the unconditional row first, where there is one
                    maps.append(every[1:] if len(every) > 1 else every)
                yield item
            else:
                readings = _readings(watched, item.pictures[0], events, maps) if runner is not None else ()
                yield Recording(item, engine.model.preview, tuple(events), readings)


def _readings(
    engine: LocalEngine, request: GenerationRequest, events: Sequence[StepEvent], maps: Sequence[Tensor]
) -> tuple[Reading, ...]:
    encoder = engine.model.text_encoder
    assert isinstance(encoder, TextEncoder)
    terms = read_prompt(request.prompt, request.steps)
    words: dict[str, list[Word]] = {}
    found: dict[tuple[int, str], list[tuple[int, Tensor]]] = {}
    for event, of_prompts in zip(events, maps, strict=True):
        for number, (term, of_tokens) in enumerate(zip(terms, of_prompts, strict=True)):
            text = text_at(term.entries, event.step)
            if text not in words:
                words[text] = words_of(encoder, text, engine.learned(text))
            found.setdefault((number, text), []).append((event.step, word_maps(of_tokens, words[text])))
    return tuple(
        Reading(text, words[text], tuple(step for step, _ in steps), torch.stack([own for _, own in steps]))
        for (_, text), steps in found.items()
    )
