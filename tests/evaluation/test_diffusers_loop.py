from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from evaluation.diffusers_loop import draw
from models.errors import RequestError
from models.folder import load_model
from pipelines.local_engine import LocalEngine
from pipelines.request import GenerationRequest
from pipelines.result import GenerationResult
from tests.stock import make_stock_model
from tests.tiny import make_tiny_model

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def model(tmp_path_factory, request):
    folder = tmp_path_factory.mktemp("models") / "model"
    if request.param == "stable diffusion":
        return load_model(make_stock_model(folder))
    return load_model(make_tiny_model(folder, request.param))


def largest_difference(model, request):
    """Between the pictures of the loop and those of our engine, of 255."""
    (result,) = (
        event for event in LocalEngine(model, "cpu").generate(request) if isinstance(event, GenerationResult)
    )
    pairs = zip(draw(model, request), result.images, strict=True)
    ours, theirs = (np.stack(images).astype(int) for images in zip(*pairs, strict=True))
    assert len(ours) == request.count
    assert ours.std() > 2  # else any two would be alike
    return abs(ours - theirs).max()


@pytest.mark.slow
@pytest.mark.parametrize("model", ["flow", "epsilon", "v_prediction", "stable diffusion"], indirect=True)
@pytest.mark.parametrize("sampler", ["Euler", "DDIM"])
@pytest.mark.parametrize("steps", [1, 4, 7])
def test_the_loop_and_our_engine_draw_the_same_picture(model, sampler, steps):
    request = GenerationRequest(
        prompt="a red apple",
        negative_prompt="dog",
        width=32,
        height=32,
        steps=steps,
        guidance_scale=3.0,
        sampler=sampler,
        seed=5,
        count=2,
    )
    assert largest_difference(model, request) <= 2


@pytest.mark.slow
@pytest.mark.parametrize("sampler", ["DPM++ 2M", "Euler"])
def test_the_starters_picture_is_the_same(sampler):
    model = load_model(ROOT / "checkpoints" / "starter")
    options = {"prompt": "a red apple", "seed": 3, "steps": 12, "sampler": sampler}
    assert largest_difference(model, GenerationRequest.from_options(options, model.defaults)) <= 2


@pytest.mark.slow
@pytest.mark.parametrize("model", ["epsilon"], indirect=True)
def test_a_sampler_that_the_loop_lacks_is_named(model):
    request = GenerationRequest.from_options({"prompt": "a dog", "seed": 1}, model.defaults)
    for other in ({"sampler": "DPM++ 2M"}, {"sampler": "Heun"}, {"schedule": "Karras"}):
        with pytest.raises(RequestError, match=r"Euler with Automatic"):
            draw(model, replace(request, **other))


@pytest.mark.slow
@pytest.mark.parametrize("model", ["flow"], indirect=True)
def test_the_parts_are_told_in_their_order(model):
    told = []
    draw(model, GenerationRequest.from_options({"prompt": "a dog", "seed": 1}, model.defaults), told.append)
    assert told == ["text", "unet", "decoder"]
