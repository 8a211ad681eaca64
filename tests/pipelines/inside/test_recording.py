import dataclasses
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from models.folder import load_model
from pipelines.inside.recording import Recording, record
from pipelines.local_engine import LocalEngine
from pipelines.request import GenerationRequest
from pipelines.result import GenerationResult, StepEvent
from pipelines.samplers import SAMPLERS, make_scheduler
from pipelines.state import State
from tests.stock import make_stock_model
from tests.tiny import make_tiny_model

REQUEST = GenerationRequest(
    prompt="a red apple", width=32, height=32, steps=12, guidance_scale=2.0, sampler="Euler", seed=3
)
STARTER = Path(__file__).parents[3] / "checkpoints" / "starter"


def a_request(**changes: Any) -> GenerationRequest:
    return GenerationRequest.from_dict(REQUEST.to_dict() | changes)


def recorded(engine: LocalEngine, request: GenerationRequest, state: State | None = None) -> Recording:
    *_, last = record(engine, request, state)
    assert isinstance(last, Recording)
    return last


def drawn(engine: LocalEngine, request: GenerationRequest) -> np.ndarray:
    *_, result = engine.generate(request)
    assert isinstance(result, GenerationResult)
    return np.asarray(result.images[0]).astype(int)


def ends(recording: Recording) -> Tensor:
    denoised = recording.events[-1].denoised
    assert denoised is not None
    return denoised


@pytest.mark.parametrize("guidance", [0.0, 1.0, 2.0])
def test_the_picture_is_the_one_that_was_drawn(engine: LocalEngine, guidance: float) -> None:
    request = a_request(guidance_scale=guidance)
    recording = recorded(engine, request)
    assert abs(np.asarray(recording.image).astype(int) - drawn(engine, request)).max() <= 1
    assert [event.step for event in recording.events] == list(range(1, 13))
    assert len(recording.readings) == (guidance != 0)


def test_each_step_has_maps_of_each_word(engine: LocalEngine) -> None:
    (reading,) = recorded(engine, REQUEST).readings
    assert [word.text for word in reading.words] == ["a", "red", "apple"]
    assert reading.maps.shape == (12, 3, 4, 4)
    assert reading.steps == tuple(range(1, 13))
    assert (reading.maps.sum(1) < 1).all()
    assert not torch.equal(reading.maps[0], reading.maps[-1])


def test_words_that_change_are_read_in_their_steps(engine: LocalEngine) -> None:
    recording = recorded(engine, a_request(prompt="a [dog:cat:4] AND red :0.5"))
    assert [(reading.text.strip(), reading.steps) for reading in recording.readings] == [
        ("a dog", (1, 2, 3, 4)),
        ("red", tuple(range(1, 13))),
        ("a cat", tuple(range(5, 13))),
    ]


def test_two_calls_a_step_are_one_map(engine: LocalEngine) -> None:
    (reading,) = recorded(engine, a_request(sampler="Heun")).readings
    assert len(reading.maps) == 12


def test_stable_diffusion_with_clip_is_read_too(tmp_path: Path) -> None:
    engine = LocalEngine(make_stock_model(tmp_path / "stock"), "cpu")
    (reading,) = recorded(engine, a_request(prompt="red cat")).readings
    assert [word.text for word in reading.words] == ["red", "cat"]


def test_a_model_of_classes_shows_its_steps_alone(tmp_path: Path) -> None:
    engine = LocalEngine(make_tiny_model(tmp_path / "classes", classes=("cat", "dog")), "cpu")
    recording = recorded(engine, a_request(prompt="cat"))
    assert recording.readings == ()
    assert len(recording.events) == 12


def test_a_student_is_looked_into_in_its_teachers_place(taught_model_folder: Path) -> None:
    engine = LocalEngine(taught_model_folder, "cpu")
    request = a_request(instant=True, steps=2, guidance_scale=1.0)
    assert abs(np.asarray(recorded(engine, request).image).astype(int) - drawn(engine, request)).max() <= 1


def test_nothing_of_the_engine_is_changed_when_it_is_stopped(engine: LocalEngine) -> None:
    unet: Any = engine.model.denoiser.unet
    before = dict(unet.attn_processors), engine.model, engine.model.denoiser.runner
    recording: Any = record(engine, REQUEST)
    next(recording)
    assert (dict(unet.attn_processors), engine.model, engine.model.denoiser.runner) == before
    recording.close()
    assert (dict(unet.attn_processors), engine.model, engine.model.denoiser.runner) == before


def branched(engine: LocalEngine, sampler: str, step: int) -> tuple[Recording, Recording]:
    """A drawing and an unchanged branch of it that begins with a step."""
    request = a_request(sampler=sampler)
    whole = recorded(engine, request)
    return whole, recorded(engine, request, State.before(whole.events[step - 1]))


def offered() -> Iterator[str]:
    return (name for name, row in SAMPLERS.items() if not row.distilled_only)


@pytest.mark.slow
@pytest.mark.parametrize("prediction_type", ["flow", "epsilon"])
@pytest.mark.parametrize("sampler", ["Euler", "DDIM", "Euler a", "DDPM", "Heun", "DPM2"])
def test_an_unchanged_branch_of_one_step_samplers_is_equal_to_the_bit(
    tmp_path: Path, sampler: str, prediction_type: Any
) -> None:
    engine = LocalEngine(make_tiny_model(tmp_path / "model", prediction_type), "cpu")
    for step in (1, 2, 7, 12):
        whole, branch = branched(engine, sampler, step)
        assert [event.step for event in branch.events] == list(range(step, 13))
        assert torch.equal(ends(branch), ends(whole)), step
        assert branch.image.tobytes() == whole.image.tobytes()


MULTISTEP = [
    name if name in ("DPM++ 2M", "UniPC") else pytest.param(name, marks=pytest.mark.exhaustive)
    for name, row in SAMPLERS.items()
    if row.multistep
]


def psnr(one: Recording, other: Recording) -> float:
    difference = np.asarray(one.image).astype(float) - np.asarray(other.image)
    return 20 * math.log10(255) - 10 * math.log10(max(float((difference**2).mean()), 1e-10))


@pytest.mark.slow
@pytest.mark.parametrize("sampler", MULTISTEP)
def test_an_unchanged_branch_of_multistep_samplers_is_near_from_every_step(sampler: str) -> None:
    """They are handed the steps before, and forget none of them where a branch is branched again."""
    engine = LocalEngine(STARTER, "cpu")
    request = a_request(sampler=sampler, width=128, height=128, steps=12, guidance_scale=3.0)
    whole = recorded(engine, request)
    for step in range(1, 13):
        state = State.before(whole.events[step - 1], whole.events[: step - 1])
        branch = recorded(engine, request, state)
        assert [event.step for event in branch.events] == list(range(step, 13))
        assert psnr(branch, whole) >= 40, step
        torch.testing.assert_close(ends(branch), ends(whole), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("sampler", MULTISTEP)
def test_a_multistep_sampler_goes_on_where_another_one_of_the_same_levels_stopped(
    engine: LocalEngine, sampler: str
) -> None:
    schedule = {} if sampler == "PLMS" else {"schedule": "Uniform"}
    events = recorded(engine, a_request(sampler="Euler", schedule="Uniform")).events
    state = State.before(events[5], events[2:5])
    branch = recorded(engine, a_request(sampler=sampler, **schedule), state)
    assert [event.step for event in branch.events] == list(range(6, 13))
    assert branch.events[0].sigma == pytest.approx(events[5].sigma)
    # The steps before are felt from the first step on, and levels that are not its own are not listened to.
    alone = recorded(engine, a_request(sampler=sampler, **schedule), State.before(events[5]))
    assert not torch.equal(ends(branch), ends(alone))
    other = dataclasses.replace(state, earlier=tuple(reversed(state.earlier)))
    assert torch.equal(ends(recorded(engine, a_request(sampler=sampler, **schedule), other)), ends(alone))


@pytest.mark.slow
@pytest.mark.parametrize("sampler", list(offered()))
def test_every_sampler_goes_on_from_every_other_ones_state(engine: LocalEngine, sampler: str) -> None:
    """Where it begins lies on the line between the clean latents and the noise that it was handed."""
    for first in ("Euler", "DPM++ 2M"):
        whole = recorded(engine, a_request(sampler=first))
        event = whole.events[5]
        branch = recorded(engine, a_request(sampler=sampler, prompt="a green dog"), State.before(event))
        began = branch.events[0]
        assert branch.events[-1].step == 12
        assert torch.isfinite(ends(branch)).all()
        assert not torch.equal(ends(branch), ends(whole))
        assert began.latents is not None
        state = State.before(event)
        expected = (state.denoised + began.sigma * state.epsilon) / math.hypot(1, began.sigma)
        torch.testing.assert_close(began.latents, expected.float(), rtol=1e-4, atol=1e-5)


def test_a_consistency_model_goes_on_from_the_nearest_of_its_levels(tiny_model_folder: Path) -> None:
    model = load_model(tiny_model_folder)
    for name in ("LCM", "Euler"):
        scheduler = make_scheduler(SAMPLERS[name], "Automatic", model.denoiser, 8)
        abar = scheduler.alphas_cumprod
        timesteps = scheduler.timesteps.long() if name == "LCM" else torch.arange(7, -1, -1)
        for step, timestep in enumerate(timesteps):
            sigma = float(((1 - abar[timestep]) / abar[timestep]).sqrt())
            zero = torch.zeros(1, 4, 8, 8, dtype=torch.float64)
            assert State(zero, zero, sigma * 1.01).steps_before(scheduler) == step


def test_events_hand_over_what_the_sampler_has(engine: LocalEngine) -> None:
    for sampler in ("Euler", "DDIM"):
        first = next(iter(engine.generate(a_request(sampler=sampler))))
        assert isinstance(first, StepEvent)
        assert first.sample is not None
        assert first.latents is not None
        scale = math.hypot(1, first.sigma) if sampler == "Euler" else 1
        torch.testing.assert_close(first.sample, first.latents * scale)
