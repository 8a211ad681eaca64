"""Does a picture show what was asked? The share of pictures whose nearest real pictures hold the concept."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Labels:
    """What pictures show: one concept and one style each."""

    concepts: list[str]
    styles: list[str]


def hits(queries: Tensor, asked: Labels, gallery: Tensor, shown: Labels, nearest: int = 5) -> Tensor:
    """Whether the asked concept is among the `nearest` gallery pictures of each query, (Q,) bool.

    queries (Q, D) and gallery (G, D) are features, compared by cosine. The gallery picture of the asked
    concept in the asked style is left out, so a copy of the training picture does not find itself.
    """
    similarity = torch.nn.functional.normalize(queries) @ torch.nn.functional.normalize(gallery).T  # (Q, G)
    same_concept = _equal(asked.concepts, shown.concepts)
    similarity[same_concept & _equal(asked.styles, shown.styles)] = -2
    best = similarity.topk(nearest, dim=1).indices  # (Q, nearest)
    return same_concept.gather(1, best).any(1)


def _equal(rows: list[str], columns: list[str]) -> Tensor:
    numbers = {name: number for number, name in enumerate({*rows, *columns})}
    row = torch.tensor([numbers[name] for name in rows])
    column = torch.tensor([numbers[name] for name in columns])
    return row.unsqueeze(1) == column.unsqueeze(0)
