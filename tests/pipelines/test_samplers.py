import math
from collections.abc import Sequence
from typing import Any

import diffusers
import pytest
import torch

from models.denoiser import Denoiser, PredictionType
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
@pytest.mark.parametrize("prediction_type", ["flow", "epsilon"])
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


class PublishedUNet(torch.nn.Module):
    """diffusers' own scheduler tests use x * t / (t + 1) for a model."""

    config = perfect_denoiser("epsilon").unet.config

    def __init__(self) -> None:
        super().__init__()
        self.precision = torch.nn.Parameter(torch.zeros(1))

    def forward(self, z: torch.Tensor, t: torch.Tensor, **_: Any) -> tuple[torch.Tensor]:
        return (z * float(t[0]) / (float(t[0]) + 1),)


class GivenNoise(Noise):
    """diffusers' deterministic first sample, (4, 3, 8, 8) counting up to 1."""

    def __init__(self) -> None:
        super().__init__([0, 1, 2, 3])

    def draw(self, shape: Sequence[int]) -> torch.Tensor:
        return (torch.arange(768, dtype=torch.float32).reshape(3, 8, 8, 4) / 768).permute(3, 0, 1, 2)


class EulerOfTheTest(diffusers.EulerDiscreteScheduler):
    """diffusers' Euler test, unlike its pipelines, hands `step` the scaled sample."""

    def step(self, output: torch.Tensor, timestep: torch.Tensor, x: torch.Tensor, **options: Any) -> Any:
        return super().step(output, timestep, self.scale_model_input(x, timestep), **options)


@pytest.mark.parametrize(
    ("scheduler_class", "train_steps", "settings", "published_sum"),
    [
        (
            diffusers.DDIMScheduler,
            1000,
            {"clip_sample": True},
            pytest.approx(172.0067, abs=0.01),
        ),  # test_scheduler_ddim.py:120
        (EulerOfTheTest, 1100, {}, pytest.approx(10.0807, abs=0.01)),  # test_scheduler_euler.py:135
        (
            EulerOfTheTest,
            1100,
            {"use_karras_sigmas": True},
            pytest.approx(124.5230, abs=0.01),
        ),  # test_scheduler_euler.py:198
        # test_scheduler_dpm_multi.py:250 gives the mean within 0.001
        (
            diffusers.DPMSolverMultistepScheduler,
            1000,
            {"lower_order_final": False, "final_sigmas_type": "sigma_min"},
            pytest.approx(0.3301 * 768, abs=0.001 * 768),
        ),
    ],
)
def test_the_loop_gives_the_sums_that_diffusers_publishes(
    scheduler_class: Any, train_steps: int, settings: dict[str, Any], published_sum: Any
) -> None:
    betas = torch.linspace(0.0001, 0.02, train_steps, dtype=torch.float64)
    scheduler = scheduler_class(num_train_timesteps=train_steps, trained_betas=betas.tolist(), **settings)
    scheduler.set_timesteps(10)
    latents, _ = draw(Denoiser(PublishedUNet(), "epsilon", betas), scheduler, GivenNoise(), (3, 8, 8))
    assert float(latents.abs().sum()) == published_sum


K_DIFFUSION_LEVELS = [14.6146, 9.1029, 5.4784, 3.1686, 1.7494, 0.9141, 0.4469, 0.2014, 0.0819, 0.0292]


def k_diffusion_process() -> torch.Tensor:
    sigmas = torch.exp(torch.linspace(math.log(0.0291675), math.log(14.614642), 1000, dtype=torch.float64))
    return 1 / (1 + sigmas**2)


def test_karras_levels_are_those_of_k_diffusion() -> None:
    levels = noise_levels("Karras", k_diffusion_process(), 10, flow=False)
    assert levels.tolist() == pytest.approx(K_DIFFUSION_LEVELS, abs=1e-4)


@pytest.mark.parametrize(
    ("name", "published"),  # k-diffusion 0.1.1 sampling.py in float64, on the denoiser x / (1 + sigma^2)
    [("Euler", 323.126386), ("Heun", 404.053261), ("DPM++ 2M", 403.366925), ("LMS", 364.134564)],
)
def test_samplers_give_the_sums_of_k_diffusion(name: str, published: float) -> None:
    abar = k_diffusion_process()
    denoiser = Denoiser(UnitGaussianUNet(), "epsilon", 1 - abar / torch.cat([abar.new_ones(1), abar[:-1]]))
    scheduler = make_scheduler(SAMPLERS[name], "Karras", denoiser, 10)
    latents, events = draw(denoiser, scheduler, GivenNoise(), (3, 8, 8))
    first = events[0]
    assert first.latents is not None
    # Everything here is linear: only the scale of the start may differ.
    start = first.latents.abs().sum() * math.hypot(1, first.sigma)
    wanted = GivenNoise().draw([]).abs().sum() * 14.614642
    assert float(latents.abs().sum() * wanted / start) == pytest.approx(published, rel=2e-5)


class UnitGaussianUNet(torch.nn.Module):
    """The perfect model of data N(0, 1): epsilon = sqrt(1 - abar) x, the level taken from the timestep."""

    config = perfect_denoiser("epsilon").unet.config

    def __init__(self) -> None:
        super().__init__()
        self.precision = torch.nn.Parameter(torch.zeros(1))

    def forward(self, z: torch.Tensor, t: torch.Tensor, **_: Any) -> tuple[torch.Tensor]:
        sigma = math.exp(math.log(0.0291675) + float(t[0]) / 999 * math.log(14.614642 / 0.0291675))
        return (z * sigma / math.hypot(1, sigma),)


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
    ],
)
def test_fused_names_are_split(fused: str, parts: tuple[str, str | None]) -> None:
    assert split_fused_name(fused) == parts
