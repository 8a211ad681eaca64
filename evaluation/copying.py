"""Are pictures drawn anew, or learned by heart? How near they are to training pictures of their concept."""

import torch
from torch import Tensor
from torch.nn.functional import normalize

from evaluation.retrieval import Labels


def nearest_distances(pictures: Tensor, concepts: list[str], train: Tensor, shown: Labels) -> Tensor:
    """1 - cosine of each picture to the nearest training picture of its concept, (N,).

    pictures (N, D) and train (T, D) are features; infinite for a concept without training pictures.
    """
    return _distances(pictures, concepts, train, shown).amin(1)


def nearest_others(train: Tensor, shown: Labels) -> Tensor:
    """1 - cosine of each training picture to the nearest other one of its concept, (T,)."""
    return _distances(train, shown.concepts, train, shown).fill_diagonal_(float("inf")).amin(1)


def copied(drawn: Tensor, held_out: Tensor, share: float = 0.05) -> Tensor:
    """Which drawn pictures are nearer to training than all but `share` of held-out ones are, (N,) bool.

    Both are distances as `nearest_distances` gives them; pictures made independently of the training set
    would be copies by this rule as often as held-out ones, `share` of the time.
    """
    return drawn < held_out[held_out.isfinite()].quantile(share)


def _distances(pictures: Tensor, concepts: list[str], train: Tensor, shown: Labels) -> Tensor:
    """1 - cosine of each picture to each training picture, infinite for other concepts, (N, T)."""
    distance = 1 - normalize(pictures) @ normalize(train).T
    numbers = {name: number for number, name in enumerate({*concepts, *shown.concepts})}
    asked, there = (torch.tensor([numbers[name] for name in names]) for names in (concepts, shown.concepts))
    return distance.masked_fill(asked.unsqueeze(1) != there, float("inf"))
