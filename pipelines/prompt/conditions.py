"""What guides each step of a batch: the states of its prompts, as the words of each step have them."""

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from models.text_encoder import TextStates
from pipelines.prompt.compose import split_composition
from pipelines.prompt.lora import take_loras
from pipelines.prompt.schedule import schedule, text_at


@dataclass(frozen=True, slots=True)
class Term:
    """One of the prompts that AND joins: what is read until which step, and its weight."""

    entries: tuple[tuple[int, str], ...]
    weight: float = 1.0


Prompt = tuple[Term, ...]  # one picture's


@dataclass(frozen=True, slots=True)
class Composition:
    """States of several prompts for each of B pictures: N rows, the picture and the weight of each."""

    states: TextStates  # (N, T, D)
    pictures: Tensor  # (N,) of 0 .. B - 1
    weights: Tensor  # (N,)

    @property
    def device(self) -> torch.device:
        """Where the states lie."""
        return self.states.device


Condition = TextStates | Composition
# States for the whole drawing, or what gives them for a step, counted from 1.
Conditions = TextStates | Callable[[int], Condition]


@functools.lru_cache(maxsize=64)  # the pictures of a request mostly share theirs
def read_prompt(text: str, steps: int, first_pass_steps: int | None = None) -> Prompt:
    """What a prompt asks for in so many steps, or in those of a second pass; LoRA tags are left out."""
    words, _ = take_loras(text)
    return tuple(
        Term(tuple(schedule(part, steps, first_pass_steps)), weight)
        for part, weight in split_composition(words)
    )


@functools.lru_cache(maxsize=64)
def read_negative(text: str, steps: int, first_pass_steps: int | None = None) -> Prompt:
    """The same of a negative prompt, in which AND is a word."""
    return (Term(tuple(schedule(text, steps, first_pass_steps))),)


def literal(text: str, steps: int, first_pass_steps: int | None = None) -> Prompt:
    """A text whose every character is meant: a caption, or the name of a class."""
    return (Term(((steps, text),)),)


def conditions(prompts: Sequence[Prompt], encode: Callable[[str], TextStates]) -> Conditions:
    """What guides a batch of pictures, one prompt for each; `encode` gives the states (1, T, D) of a text."""
    first = prompts[0]
    if all(prompt == first for prompt in prompts) and len(first) == 1 and first[0].weight == 1:
        texts = {words for _, words in first[0].entries}
        if len(texts) == 1:
            return encode(texts.pop())  # one prompt that they share
    return _StepConditions(prompts, encode)


class _StepConditions:
    """States by step; those of steps with the same words are made once."""

    def __init__(self, prompts: Sequence[Prompt], encode: Callable[[str], TextStates]) -> None:
        self._prompts, self._encode = prompts, encode
        self._texts: dict[str, TextStates] = {}
        self._steps: dict[tuple[str, ...], Condition] = {}

    def __call__(self, step: int) -> Condition:
        words = tuple(text_at(term.entries, step) for prompt in self._prompts for term in prompt)
        if words not in self._steps:
            for text in words:
                if text not in self._texts:
                    self._texts[text] = self._encode(text)
            states = TextStates.cat([self._texts[text] for text in words])  # (N, T, D)
            self._steps[words] = self._compose(states)
        return self._steps[words]

    def _compose(self, states: TextStates) -> Condition:
        terms = [(picture, term) for picture, prompt in enumerate(self._prompts) for term in prompt]
        if len(terms) == len(self._prompts) and all(term.weight == 1 for _, term in terms):
            return states
        device = states.hidden.device
        return Composition(
            states,
            torch.tensor([picture for picture, _ in terms], device=device),
            torch.tensor([term.weight for _, term in terms], device=device),
        )
