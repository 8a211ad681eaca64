import dataclasses
from pathlib import Path

import pytest

from models.errors import RequestError
from pipelines.local_engine import LocalEngine
from pipelines.result import GenerationResult
from tests.pipelines.test_local_engine import REQUEST


def test_lcm_is_for_distilled_models_alone(engine: LocalEngine, tiny_model_folder: Path) -> None:
    request = dataclasses.replace(REQUEST, sampler="LCM")
    reason = engine.why_not(request)
    assert reason is not None
    assert "distilled" in reason
    with pytest.raises(RequestError, match="distilled"):
        next(iter(engine.generate(request)))
    distilled = LocalEngine(tiny_model_folder, "cpu")
    distilled.model.denoiser.distilled = True
    assert distilled.why_not(request) is None
    *_, result = distilled.generate(request)
    assert isinstance(result, GenerationResult)
    assert len(result.images) == 1
    assert "at most 50 steps" in (distilled.why_not(dataclasses.replace(request, steps=51)) or "")


def test_a_model_without_a_student_says_so(engine: LocalEngine) -> None:
    request = dataclasses.replace(REQUEST, instant=True)
    assert "no student" in (engine.why_not(request) or "")
    with pytest.raises(RequestError, match="no student"):
        next(iter(engine.generate(request)))


def test_sizes_that_the_autoencoder_cannot_make_are_refused(engine: LocalEngine) -> None:
    assert engine.why_not(REQUEST) is None
    coarse = LocalEngine(engine.model, "cpu")
    factor = engine.model.autoencoder.downsampling_factor
    engine.model.autoencoder.downsampling_factor = 16
    try:
        assert "multiples of 16" in (coarse.why_not(dataclasses.replace(REQUEST, width=40)) or "")
    finally:
        engine.model.autoencoder.downsampling_factor = factor
