import math

import pytest
import torch

from models.denoiser import PredictionType
from models.errors import RequestError
from pipelines.noise import Noise
from pipelines.samplers import (
    SAMPLERS,
    SCHEDULES,
    Sampler,
    canonical_sampler,
    make_scheduler,
    noise_levels,
    sampler_names,
    split_fused_name,
)
from tests.pipelines.gaussian import MEAN, STD, draw, perfect_denoiser, relative_error

# numpy 2 has words for how diffusers turns tensors into arrays.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

DETERMINISTIC = [row for row in SAMPLERS.values() if not row.stochastic]
STOCHASTIC = [row for row in SAMPLERS.values() if row.stochastic and not row.distilled_only]
# Relative error after 10, 20 and 40 steps on the schedule Automatic: measured, plus a tenth.
FLOW_ERRORS = {
    "Euler": (0.126, 0.065, 0.033),
    "Heun": (0.0225, 0.0038, 0.0008),
    "LMS": (0.0210, 0.0032, 0.0005),
    "DPM2": (0.0043, 0.0004, 0.0004),
    "DPM++ 2M": (0.0047, 0.0102, 0.0046),
    "UniPC": (0.0052, 0.0072, 0.0021),
    "DEIS": (0.0378, 0.0068, 0.0022),
    "DDIM": (0.126, 0.065, 0.033),
    "PLMS": (0.0164, 0.0029, 0.0006),
}
EPSILON_ERRORS = {
    "Euler": (0.206, 0.111, 0.060),
    "Heun": (0.0415, 0.0088, 0.0012),
    "LMS": (0.0291, 0.0014, 0.0007),
    "DPM2": (0.0351, 0.0062, 0.0003),
    "DPM++ 2M": (0.0477, 0.0119, 0.0016),
    "UniPC": (0.0532, 0.0050, 0.0009),
    "DEIS": (0.0350, 0.0057, 0.0003),
    "DDIM": (0.206, 0.111, 0.060),
    "PLMS": (0.0332, 0.0091, 0.0009),
}
FIRST_ORDER = {"Euler", "DDIM"}


def run(row: Sampler, schedule: str, prediction_type: PredictionType, steps: int) -> tuple[float, int]:
    denoiser = perfect_denoiser(prediction_type)
    latents, events = draw(denoiser, make_scheduler(row, schedule, denoiser, steps))
    return relative_error(latents, events), len(events)


@pytest.mark.parametrize("row", DETERMINISTIC, ids=lambda row: row.name)
@pytest.mark.parametrize("prediction_type", ["flow", "epsilon", "v_prediction"])
def test_deterministic_samplers_reach_the_exact_map(row: Sampler, prediction_type: PredictionType) -> None:
    allowed = (FLOW_ERRORS if prediction_type == "flow" else EPSILON_ERRORS)[row.name]
    for steps, most in zip((10, 20, 40), allowed, strict=True):
        error, _ = run(row, "Automatic", prediction_type, steps)
        assert error <= most, (row.name, steps)


@pytest.mark.parametrize("row", DETERMINISTIC, ids=lambda row: row.name)
def test_errors_fall_with_the_order_of_the_sampler(row: Sampler) -> None:
    errors = [run(row, "Automatic", "epsilon", steps)[0] for steps in (10, 20, 40)]
    order = math.log2(errors[0] / errors[2]) / 2  # over two doublings
    if row.name in FIRST_ORDER:
        assert 0.85 < order < 1.15
    else:
        assert order > 1.9


@pytest.mark.parametrize("row", DETERMINISTIC, ids=lambda row: row.name)
@pytest.mark.parametrize("prediction_type", ["flow", "epsilon"])
def test_every_schedule_leads_to_the_exact_map(row: Sampler, prediction_type: PredictionType) -> None:
    for schedule in row.schedules:
        assert run(row, schedule, prediction_type, 40)[0] < 0.06, schedule


@pytest.mark.slow
@pytest.mark.parametrize("row", DETERMINISTIC, ids=lambda row: row.name)
@pytest.mark.parametrize("prediction_type", ["flow", "epsilon"])
def test_every_schedule_ends_closer_with_most_steps(row: Sampler, prediction_type: PredictionType) -> None:
    for schedule in row.schedules:
        assert run(row, schedule, prediction_type, 150)[0] < 0.02, schedule


@pytest.mark.parametrize("row", SAMPLERS.values(), ids=lambda row: row.name)
@pytest.mark.parametrize("steps", [1, 2, 3, 7])
def test_one_event_a_step_however_many_model_calls(row: Sampler, steps: int) -> None:
    for prediction_type in ("flow", "epsilon"):
        denoiser = perfect_denoiser(prediction_type, distilled=True)
        for schedule in row.schedules:
            latents, events = draw(denoiser, make_scheduler(row, schedule, denoiser, steps), shape=(1, 2, 2))
            assert [event.step for event in events] == list(range(1, steps + 1))
            sigmas = [event.sigma for event in events]
            assert sigmas == sorted(set(sigmas), reverse=True)
            assert torch.isfinite(latents).all()


def test_steps_that_do_not_divide_the_process_lose_nothing() -> None:
    for name in ("DDIM", "PLMS"):
        errors = [run(SAMPLERS[name], "Automatic", "flow", steps)[0] for steps in (20, 30, 40, 150)]
        assert errors == sorted(errors, reverse=True)


def mean_and_std(
    row: Sampler, schedule: str, prediction_type: PredictionType, steps: int
) -> tuple[float, float]:
    denoiser = perfect_denoiser(prediction_type)
    scheduler = make_scheduler(row, schedule, denoiser, steps)
    latents, _ = draw(denoiser, scheduler, Noise([1, 2, 3, 4]), (1, 32, 32))
    return float(latents.mean()), float(latents.std())


@pytest.mark.parametrize("row", STOCHASTIC, ids=lambda row: row.name)
@pytest.mark.parametrize("prediction_type", ["flow", "epsilon", "v_prediction"])
def test_stochastic_samplers_draw_the_distribution(row: Sampler, prediction_type: PredictionType) -> None:
    # Four standard errors of 4,096 samples; Euler a and DDPM, of order 1/2, also fall short in the spread.
    mean_bound, std_bound = 4 * STD / 64, 4 * STD / math.sqrt(2 * 4096)
    bias = 0.025 if row.name in ("Euler a", "DDPM") else 0.0
    mean, std = mean_and_std(row, "Automatic", prediction_type, 150 if bias else 40)
    assert abs(mean - MEAN) < mean_bound
    assert abs(std - STD + bias) < std_bound


def test_ancestral_euler_is_ddpm_in_other_words() -> None:
    for prediction_type in ("flow", "epsilon"):
        denoiser = perfect_denoiser(prediction_type)
        one, other = (
            draw(denoiser, make_scheduler(SAMPLERS[name], "Automatic", denoiser, 20))[0]
            for name in ("Euler a", "DDPM")
        )
        torch.testing.assert_close(one, other, atol=2e-4, rtol=0)


def test_noise_levels_fall_and_keep_to_the_process() -> None:
    for prediction_type in ("flow", "epsilon"):
        denoiser = perfect_denoiser(prediction_type)
        abar = denoiser.alphas_cumprod
        for schedule in SCHEDULES[1:]:
            for steps in (1, 2, 20, 150):
                levels = noise_levels(schedule, abar, steps, prediction_type == "flow")
                assert len(levels) == steps
                assert (levels.diff() < 0).all()
                assert float(levels[-1]) > 0.001
                assert float(levels[0]) < (100.1 if prediction_type == "flow" else 14.7)


def test_names_are_matched_without_case_and_the_nearest_is_named() -> None:
    assert canonical_sampler(" dpm++  2m sde ") == "DPM++ 2M SDE"
    with pytest.raises(RequestError, match='did you mean "DPM\\+\\+ 2M"'):
        canonical_sampler("DPM+ 2M")
    with pytest.raises(RequestError, match="Unknown sampler"):
        canonical_sampler("x" * 10_000)


def test_lcm_is_offered_for_distilled_models_only() -> None:
    assert set(sampler_names(distilled=True)) - set(sampler_names()) == {"LCM"}
    assert len(SAMPLERS) == 14


@pytest.mark.parametrize(
    ("fused", "parts"),
    [
        ("DPM++ 2M Karras", ("DPM++ 2M", "Karras")),
        ("DPM++ 2M SDE exponential", ("DPM++ 2M SDE", "Exponential")),
        ("Euler", ("Euler", None)),
        ("Karras", ("Karras", None)),
        ("Euler a SGM Uniform", ("Euler a", "SGM Uniform")),
    ],
)
def test_fused_names_are_split(fused: str, parts: tuple[str, str | None]) -> None:
    assert split_fused_name(fused) == parts
