"""Does a picture show what was asked? The share of pictures whose nearest real pictures hold the concept."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Labels:
    """What pictures show: one concept and one style each; a style of "" is any."""

    concepts: list[str]
    styles: list[str]


def ranks(queries: Tensor, asked: Labels, gallery: Tensor, shown: Labels) -> Tensor:
    """How many gallery pictures are nearer to each query than the first of the asked concept, (Q,).

    queries (Q, D) and gallery (G, D) are features, compared by cosine. The gallery picture of the asked
    concept in the asked style is left out, so a copy of the training picture does not find itself. The
    concept is among the k nearest where the rank is below k; without another picture of it, it is G.
    """
    similarity = torch.nn.functional.normalize(queries) @ torch.nn.functional.normalize(gallery).T  # (Q, G)
    same_concept = _equal(asked.concepts, shown.concepts)
    left_out = same_concept & _equal(asked.styles, shown.styles)
    best = similarity.masked_fill(left_out | ~same_concept, -2).amax(1, keepdim=True)  # (Q, 1)
    nearer = (similarity.masked_fill(left_out, -2) > best).sum(1)
    return nearer.masked_fill(best.squeeze(1) == -2, len(gallery))


def _equal(rows: list[str], columns: list[str]) -> Tensor:
    numbers = {name: number for number, name in enumerate({*rows, *columns})}
    row = torch.tensor([numbers[name] for name in rows])
    column = torch.tensor([numbers[name] for name in columns])
    return row.unsqueeze(1) == column.unsqueeze(0)
