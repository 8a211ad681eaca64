import dataclasses
import re
from pathlib import Path

import numpy as np
import pytest
import torch

from models.errors import ModelError, RequestError
from models.text_encoder import TextStates
from pipelines.device import choose_device
from pipelines.local_engine import CACHED_PROMPTS, TORCH_VERSION, LocalEngine
from pipelines.request import GenerationRequest
from pipelines.result import GenerationResult, StepEvent
from tests.tiny import make_tiny_model

REQUEST = GenerationRequest(
    prompt="a red apple", width=32, height=32, steps=2, guidance_scale=2.0, sampler="Euler", seed=1
)


def the_result(engine: LocalEngine, request: GenerationRequest) -> GenerationResult:
    *_, result = engine.generate(request)
    assert isinstance(result, GenerationResult)
    return result


def test_a_folder_is_enough_to_draw(engine: LocalEngine) -> None:
    events = list(engine.generate(REQUEST))
    assert [type(event) for event in events] == [StepEvent, StepEvent, GenerationResult]
    result = events[-1]
    assert isinstance(result, GenerationResult)
    assert result.engine == f"torch cpu float32 {TORCH_VERSION}" == engine.name
    assert re.fullmatch(r"\d+\.\d+\.\d+\w*", TORCH_VERSION)
    assert torch.__version__.startswith(TORCH_VERSION)
    assert result.model_id == engine.model.model_id


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction"])
def test_models_that_predict_other_things_draw_too(tmp_path: Path, prediction_type: str) -> None:
    engine = LocalEngine(make_tiny_model(tmp_path / "m", prediction_type), "cpu")  # type: ignore[arg-type]
    assert engine.model.denoiser.prediction_type == prediction_type
    assert len(the_result(engine, REQUEST).images) == 1


def test_small_pictures_are_drawn_many_at_a_time(engine: LocalEngine) -> None:
    first = next(iter(engine.generate(dataclasses.replace(REQUEST, count=5))))
    assert isinstance(first, StepEvent)
    assert first.images == 5
    assert engine.batch_images(REQUEST) > 5
    big = next(iter(engine.generate(dataclasses.replace(REQUEST, count=2, width=512, height=512))))
    assert isinstance(big, StepEvent)
    assert big.images == 1 == engine.batch_images(dataclasses.replace(REQUEST, width=512, height=512))


def test_an_instant_picture_is_drawn_by_the_student_in_one_call_a_step(taught_model_folder: Path) -> None:
    engine = LocalEngine(taught_model_folder, "cpu")
    student = engine.model.instant
    assert student is not None
    calls: list[torch.nn.Module] = []
    for model in (engine.model, student):
        model.denoiser.unet.register_forward_hook(lambda unet, _inputs, _output: calls.append(unet))
    options = {"prompt": "a red apple", "seed": 1, "instant": True}
    request = GenerationRequest.from_options(options, engine.model.defaults)
    result = the_result(engine, request)
    assert calls == [student.denoiser.unet] * request.steps
    assert result.model_id == student.model_id != engine.model.model_id
    assert result.request == request
    slow = the_result(engine, dataclasses.replace(request, instant=False))
    assert calls[request.steps :] == [engine.model.denoiser.unet] * request.steps
    assert slow.model_id == engine.model.model_id
    assert slow.images[0].tobytes() != result.images[0].tobytes()


def test_a_prompt_is_encoded_once(engine: LocalEngine) -> None:
    prompts: list[str] = []
    encode = engine.model.text_encoder.encode

    def counting(texts: list[str]) -> TextStates:
        prompts.extend(texts)
        return encode(texts)

    fresh = LocalEngine(engine.model, "cpu")
    object.__setattr__(engine.model.text_encoder, "encode", counting)
    try:
        for seed in (1, 2, 3):
            the_result(fresh, dataclasses.replace(REQUEST, seed=seed))
        assert sorted(prompts) == ["", "a red apple"]
        for number in range(CACHED_PROMPTS + 5):
            fresh.encode(f"prompt {number}")
        assert len(fresh._states) == CACHED_PROMPTS
    finally:
        object.__delattr__(engine.model.text_encoder, "encode")


def test_half_precision_draws_nearly_the_same(engine: LocalEngine, tiny_model_folder: Path) -> None:
    half = LocalEngine(tiny_model_folder, "cpu", dtype=torch.bfloat16)
    one, other = (np.asarray(the_result(e, REQUEST).images[0]).astype(int) for e in (engine, half))
    assert abs(one - other).mean() < 8


def test_devices_are_chosen_by_name() -> None:
    assert choose_device("cpu") == torch.device("cpu")
    assert choose_device("auto").type in ("cpu", "cuda", "mps")
    for wrong in ("gpu", "cpu:1", "cuda:x", "cuda:99", "", "mps:0"):
        with pytest.raises(RequestError):
            choose_device(wrong)


def test_a_missing_model_is_told(tmp_path: Path) -> None:
    with pytest.raises(ModelError):
        LocalEngine(tmp_path / "nothing", "cpu")


@pytest.mark.cuda
def test_a_gpu_draws_the_picture_of_the_cpu(engine: LocalEngine, tiny_model_folder: Path) -> None:
    gpu = LocalEngine(tiny_model_folder, "cuda")
    for sampler in ("Euler", "DPM++ 2M", "DPM++ SDE", "UniPC", "LMS", "DDPM"):
        request = dataclasses.replace(REQUEST, sampler=sampler)
        one, other = (np.asarray(the_result(e, request).images[0]).astype(int) for e in (engine, gpu))
        assert abs(one - other).max() <= 3, sampler


def test_how_many_are_drawn_at_once_may_be_asked_for_and_changes_no_picture(engine: LocalEngine) -> None:
    request = GenerationRequest.from_options(
        {"prompt": "a red apple", "count": 3, "seed": 5, "steps": 2}, engine.model.defaults
    )
    found = []
    for batch_size, batches in ((None, {3}), (1, {1}), (2, {1, 2})):
        asked = dataclasses.replace(request, batch_size=batch_size)
        *events, result = engine.generate(asked)
        found.append([image.tobytes() for image in result.images])
        assert {event.images for event in events} == batches
        assert {picture.batch_size for picture in result.pictures} == {None}  # no picture keeps it
    for images in found[1:]:
        for image, first in zip(images, found[0], strict=True):
            assert max(abs(a - b) for a, b in zip(image, first, strict=True)) <= 1
