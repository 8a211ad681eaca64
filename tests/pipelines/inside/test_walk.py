import dataclasses
import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from models.errors import RequestError
from pipelines.inside.walk import NoiseBetween, slerp, walk
from pipelines.local_engine import LocalEngine
from pipelines.noise import Noise
from pipelines.request import GenerationRequest
from pipelines.result import StepEvent

REQUEST = GenerationRequest(
    prompt="a red apple", width=32, height=32, steps=3, guidance_scale=2.0, sampler="Euler a", seed=3
)


@given(st.floats(0, 1), st.integers(0, 1000))
def test_noise_keeps_its_length_on_the_way(part: float, seed: int) -> None:
    first, second = Noise([seed]).draw((4, 8, 8)), Noise([seed + 1]).draw((4, 8, 8))
    norms = sorted([float(first.norm()), float(second.norm())])
    assert norms[0] - 1 < float(slerp(first, second, part).norm()) < norms[1] + 1


def test_the_way_is_an_arc() -> None:
    middle = slerp(torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0]), 0.5)
    torch.testing.assert_close(middle, torch.tensor([math.sqrt(0.5)] * 2))


def test_the_ends_are_the_seeds_themselves() -> None:
    for part, seed in ((0.0, 1), (1.0, 2)):
        between, alone = NoiseBetween(Noise([1]), Noise([2]), part), Noise([seed])
        for _ in range(2):
            torch.testing.assert_close(between.draw((4, 8, 8)), alone.draw((4, 8, 8)))


@pytest.mark.parametrize(
    "changes", [{"seed": 9}, {"prompt": "a dog"}, {"prompt": "a [cat:dog:2]", "seed": 5}]
)
def test_a_walk_begins_and_ends_with_the_pictures_themselves(
    engine: LocalEngine, changes: dict[str, Any]
) -> None:
    to = dataclasses.replace(REQUEST, **changes)
    *events, frames = walk(engine, REQUEST, to, 3)
    assert isinstance(frames, list)
    assert len(frames) == 3
    for request, frame in ((REQUEST, frames[0]), (to, frames[2])):
        *_, alone = engine.generate(request)
        assert np.abs(np.asarray(frame).astype(int) - np.asarray(alone.images[0])).max() <= 1  # type: ignore[union-attr]
    assert frames[1].tobytes() not in (frames[0].tobytes(), frames[2].tobytes())
    fractions = [event.fraction_done(3) for event in events if isinstance(event, StepEvent)]
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1


def test_what_cannot_be_drawn_is_refused_before_the_first_step(engine: LocalEngine) -> None:
    with pytest.raises(RequestError, match="distilled"):
        next(walk(engine, REQUEST, dataclasses.replace(REQUEST, sampler="LCM"), 3))
