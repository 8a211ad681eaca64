"""What the denoiser is told by cross-attention: captions, classes or nothing, and the encoder of them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from models.class_encoder import ClassEncoder, ConditionEncoder
from models.errors import ConfigError, DataError
from models.text_encoder import TextEncoder
from training.config import DiffusionConfig, DiffusionModel
from training.data.index import Index
from training.data.pictures import Pictures


class Words(Protocol):
    """What may be said of pictures, by number; 0 is nothing, which guidance leads away from."""

    count: int

    def of(self, pictures: Pictures, i: int) -> list[int]:
        """What may be said of picture `i`, the canonical words first."""

    def text(self, number: int) -> str:
        """What a number stands for."""


class Captions:
    """The captions of a dataset."""

    def __init__(self, index: Index) -> None:
        self.index, self.count = index, index.caption_count

    def of(self, pictures: Pictures, i: int) -> list[int]:
        """See `Words`."""
        return pictures.caption_numbers(i)

    def text(self, number: int) -> str:
        """See `Words`."""
        return self.index.caption(number)


class Classes:
    """The classes of a dataset, or none; a picture of another class has no words."""

    def __init__(self, names: Sequence[str]) -> None:
        self.names = ("", *names)
        self.count = len(self.names)
        self.numbers = {name: number for number, name in enumerate(self.names)}

    def of(self, pictures: Pictures, i: int) -> list[int]:
        """See `Words`."""
        return [self.numbers.get(pictures.label(i), 0) if self.count > 1 else 0]

    def text(self, number: int) -> str:
        """See `Words`."""
        return self.names[number]


def choose_words(
    words: Words, pictures: Pictures, indices: Sequence[int], drops: Tensor, choices: Tensor, dropout: float
) -> list[int]:
    """The number of one thing said of each picture, 0 where a drop < `dropout` (Ho & Salimans 2022).

    `drops` and `choices` are numbers in [0, 1), (B,).
    """
    chosen = []
    for i, drop, choice in zip(indices, drops.tolist(), choices.tolist(), strict=True):
        numbers = words.of(pictures, i)
        chosen.append(0 if drop < dropout else numbers[int(choice * len(numbers))])
    return chosen


def build_text_encoder(model: DiffusionModel) -> TextEncoder:
    """The text encoder of a configuration, its parameters with gradients where it is trained.

    Raises ModelError for one that cannot be read, ConfigError for one that cannot be trained.
    """
    if not model.text_encoder:
        raise ConfigError("model.text_encoder is not set; name the model folder that holds the text encoder")
    if model.train_text_encoder == "no":
        return TextEncoder.from_folder(model.text_encoder)
    if model.train_text_encoder == "scratch":
        encoder = TextEncoder.untrained(model.text_encoder, model.text_layers)
    else:
        encoder = TextEncoder.from_folder(model.text_encoder)
    if encoder.family.tied is not None:  # two names of one tensor, which checkpoints do not hold
        raise ConfigError(
            f"model.train_text_encoder: {encoder.family.model} cannot be trained, only used frozen; name "
            "another text encoder, for example a BERT"
        )
    return encoder.requires_grad_()


def read_words(
    pictures: Pictures, text_encoder: TextEncoder | None, config: DiffusionConfig
) -> tuple[Words, ConditionEncoder]:
    """What is said of pictures, and what reads it: a text encoder, or without one an encoder of classes.

    That of classes begins with what the model of `init.model` knows of them. Raises DataError where pictures
    should have classes and none has one.
    """
    if text_encoder is not None:
        return Captions(pictures.index), text_encoder
    names = []
    if config.model.condition == "class":
        names = [name for name in pictures.index.labels(["", config.data.split]) if name]
        if not names:
            raise DataError(
                f"no picture of {config.data.path} has a class; put those of a class into a folder of its "
                "name, or train with model.condition=none"
            )
    torch.manual_seed(config.training.seed)
    encoder = ClassEncoder(names)
    if config.init.model and (Path(config.init.model) / "class_encoder").is_dir():
        encoder.take(ClassEncoder.from_folder(config.init.model))
    return Classes(names), encoder


class JointObjective(nn.Module):
    """An objective whose encoder of prompts is trained with the denoiser (Rombach et al. 2022, eq. 3)."""

    def __init__(self, objective: nn.Module, encoder: ConditionEncoder) -> None:
        super().__init__()
        self.objective, self.encoder = objective, encoder

    def forward(
        self,
        latents: Tensor,
        noise: Tensor,
        timestep: Tensor,
        tokens: tuple[Tensor, ...],
        shown: Tensor | None = None,
    ) -> Any:
        """The objective's loss and metrics with prompts as the encoder tokenises them."""
        return self.objective(latents, noise, timestep, self.encoder(*tokens), shown)
