"""Numbers that others published, drawn by our loop, adapter and noise processes."""

import math
from collections.abc import Sequence
from typing import Any

import diffusers
import pytest
import torch

from models.denoiser import Denoiser, PredictionType, betas_from_config
from pipelines.noise import Noise
from pipelines.samplers import SAMPLERS, make_scheduler, noise_levels
from tests.pipelines.gaussian import STABLE_DIFFUSION_BETAS, draw, perfect_denoiser

# numpy 2 has words for how diffusers turns tensors into arrays.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


class PublishedUNet(torch.nn.Module):
    """diffusers' own scheduler tests use x * t / (t + 1) for a model."""

    config = perfect_denoiser("epsilon").unet.config

    def __init__(self) -> None:
        super().__init__()
        self.precision = torch.nn.Parameter(torch.zeros(1))

    def forward(self, z: torch.Tensor, t: torch.Tensor, **_: Any) -> tuple[torch.Tensor]:
        return (z * float(t[0]) / (float(t[0]) + 1),)


class PublishedNoise(Noise):
    """diffusers' deterministic first sample, (4, 3, 8, 8) counting up to 1, then noise of seed 0."""

    def __init__(self) -> None:
        super().__init__([0, 1, 2, 3])
        self.later = torch.Generator()
        self.later.manual_seed(0)
        self.begun = False

    def draw(self, shape: Sequence[int]) -> torch.Tensor:
        if self.begun:
            return torch.randn((4, *shape), generator=self.later)
        self.begun = True
        return (torch.arange(768, dtype=torch.float32).reshape(3, 8, 8, 4) / 768).permute(3, 0, 1, 2)


def published_sum(
    scheduler: Any, betas: torch.Tensor, steps: int, prediction_type: PredictionType = "epsilon"
) -> float:
    scheduler.set_timesteps(steps)
    denoiser = Denoiser(PublishedUNet(), prediction_type, betas)
    return float(draw(denoiser, scheduler, PublishedNoise(), (3, 8, 8))[0].abs().sum())


def linear(train_steps: int = 1000, start: float = 0.0001) -> torch.Tensor:
    config = {"num_train_timesteps": train_steps, "beta_start": start, "beta_end": 0.02}
    return betas_from_config(config)


def scheduler_of(scheduler_class: Any, betas: torch.Tensor, **settings: Any) -> Any:
    return scheduler_class(num_train_timesteps=len(betas), trained_betas=betas.tolist(), **settings)


@pytest.mark.parametrize(
    ("published", "start", "settings"),  # test_scheduler_ddim.py:120, :138 and :147
    [
        (172.0067, 0.0001, {}),
        (149.8295, 0.01, {"set_alpha_to_one": True}),
        (149.0784, 0.01, {"set_alpha_to_one": False}),
    ],
)
def test_ddim(published: float, start: float, settings: dict[str, Any]) -> None:
    betas = linear(start=start)
    scheduler = scheduler_of(diffusers.DDIMScheduler, betas, clip_sample=True, **settings)
    assert published_sum(scheduler, betas, 10) == pytest.approx(published, abs=0.01)


def test_ddim_of_a_model_of_v() -> None:
    scheduler = scheduler_of(diffusers.DDIMScheduler, linear(), clip_sample=True)
    found = published_sum(scheduler, linear(), 10, "v_prediction")
    assert found == pytest.approx(52.5302, abs=0.01)  # test_scheduler_ddim.py:129


def test_ddim_variances() -> None:
    scheduler = scheduler_of(diffusers.DDIMScheduler, linear())
    published = {(420, 400): 0.14771, (980, 960): 0.32460, (487, 486): 0.00979, (999, 998): 0.02}
    for steps, variance in published.items():  # test_scheduler_ddim.py:108
        assert float(scheduler._get_variance(*steps)) == pytest.approx(variance, abs=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("prediction_type", "published"),  # test_scheduler_ddpm.py:103 and :134
    [("epsilon", 258.9606), ("v_prediction", 202.0296)],
)
def test_ddpm(prediction_type: PredictionType, published: float) -> None:
    scheduler = scheduler_of(diffusers.DDPMScheduler, linear(), clip_sample=True)
    found = published_sum(scheduler, linear(), 1000, prediction_type)
    assert found == pytest.approx(published, abs=0.01)


@pytest.mark.parametrize(
    ("scheduler_class", "settings", "published"),
    [
        (diffusers.EulerDiscreteScheduler, {}, 10.0807),  # test_scheduler_euler.py:135
        (diffusers.EulerDiscreteScheduler, {"use_karras_sigmas": True}, 124.5230),  # :198
        (diffusers.EulerAncestralDiscreteScheduler, {}, 152.3192),  # test_scheduler_euler_ancestral.py:68
        (diffusers.HeunDiscreteScheduler, {}, 0.1233),  # test_scheduler_heun.py:99
    ],
)
def test_samplers_of_k_diffusion(scheduler_class: Any, settings: dict[str, Any], published: float) -> None:
    class Tested(scheduler_class):  # type: ignore[misc]
        """These tests, unlike diffusers' pipelines, hand `step` the scaled sample."""

        def step(self, output: torch.Tensor, timestep: torch.Tensor, x: torch.Tensor, **options: Any) -> Any:
            return super().step(output, timestep, self.scale_model_input(x, timestep), **options)

    betas = linear(1100)
    found = published_sum(scheduler_of(Tested, betas, **settings), betas, 10)
    assert found == pytest.approx(published, abs=0.01)


@pytest.mark.parametrize(
    ("scheduler_class", "settings", "published_mean"),
    [
        (diffusers.DPMSolverMultistepScheduler, {"lower_order_final": False}, 0.3301),  # dpm_multi.py:250
        (diffusers.UniPCMultistepScheduler, {}, 0.2464),  # test_scheduler_unipc.py:149
    ],
)
def test_multistep_solvers(scheduler_class: Any, settings: dict[str, Any], published_mean: float) -> None:
    scheduler = scheduler_of(scheduler_class, linear(), final_sigmas_type="sigma_min", **settings)
    assert published_sum(scheduler, linear(), 10) / 768 == pytest.approx(published_mean, abs=0.001)


@pytest.mark.parametrize(("steps", "published"), [(1, 18.7097), (10, 197.7616)])
def test_lcm(steps: int, published: float) -> None:  # test_scheduler_lcm.py:233 and :243
    betas = STABLE_DIFFUSION_BETAS
    found = published_sum(scheduler_of(diffusers.LCMScheduler, betas), betas, steps)
    assert found == pytest.approx(published, abs=0.01)


def test_ddim_has_the_tables_of_compvis() -> None:
    # ldm/models/diffusion/ddim.py on Stable Diffusion's process at 50 steps, elements 0, 24 and 49.
    scheduler = scheduler_of(
        diffusers.DDIMScheduler, STABLE_DIFFUSION_BETAS, steps_offset=1, set_alpha_to_one=False
    )
    scheduler.set_timesteps(50)
    steps = scheduler.timesteps.flip(0)
    assert steps.tolist() == list(range(1, 1000, 20))
    abar = Denoiser(PublishedUNet(), "epsilon", STABLE_DIFFUSION_BETAS).alphas_cumprod
    previous = [scheduler.final_alpha_cumprod.double(), *abar[steps[:-1]]]
    chosen = [0, 24, 49]
    assert abar[steps[chosen]].tolist() == pytest.approx([0.998296, 0.302296, 0.0057755], abs=1e-6)
    assert [float(previous[i]) for i in chosen] == pytest.approx([0.99915, 0.330846, 0.0072817], abs=1e-6)
    sigmas = [scheduler._get_variance(int(steps[i]), int(steps[i]) - 20).sqrt() for i in chosen]
    assert [float(sigma) for sigma in sigmas] == pytest.approx([0.020648, 0.287685, 0.454463], abs=2e-5)


K_DIFFUSION_LEVELS = [14.6146, 9.1029, 5.4784, 3.1686, 1.7494, 0.9141, 0.4469, 0.2014, 0.0819, 0.0292]


def k_diffusion_process() -> torch.Tensor:
    sigmas = torch.exp(torch.linspace(math.log(0.0291675), math.log(14.614642), 1000, dtype=torch.float64))
    return 1 / (1 + sigmas**2)


def test_karras_levels_are_those_of_k_diffusion() -> None:
    levels = noise_levels("Karras", k_diffusion_process(), 10, flow=False)
    assert levels.tolist() == pytest.approx(K_DIFFUSION_LEVELS, abs=1e-4)


@pytest.mark.parametrize(
    ("name", "published"),  # k-diffusion 0.1.1 sampling.py in float64, on the denoiser x / (1 + sigma^2)
    [
        ("Euler", 323.126386),
        ("Heun", 404.053261),
        ("DPM2", 394.815981),
        ("DPM++ 2M", 403.366925),
        ("LMS", 364.134564),
    ],
)
def test_samplers_give_the_sums_of_k_diffusion(name: str, published: float) -> None:
    assert k_diffusion_sum(name, 10) == pytest.approx(published, rel=2e-5)


@pytest.mark.parametrize("name", ["Heun", "DPM2", "DPM++ 2M", "LMS"])
def test_samplers_come_to_the_exact_sum_of_k_diffusions_case(name: str) -> None:
    assert k_diffusion_sum(name, 80) == pytest.approx(382.605383, rel=2e-3)


def k_diffusion_sum(name: str, steps: int) -> float:
    """Of k-diffusion's first sample, by a sampler of ours on Karras levels."""
    abar = k_diffusion_process()
    denoiser = Denoiser(UnitGaussianUNet(), "epsilon", 1 - abar / torch.cat([abar.new_ones(1), abar[:-1]]))
    scheduler = make_scheduler(SAMPLERS[name], "Karras", denoiser, steps)
    latents, events = draw(denoiser, scheduler, PublishedNoise(), (3, 8, 8))
    first = events[0]
    assert first.latents is not None
    # Everything here is linear: only the scale of the start may differ.
    start = first.latents.abs().sum() * math.hypot(1, first.sigma)
    wanted = PublishedNoise().draw([]).abs().sum() * 14.614642
    return float(latents.abs().sum() * wanted / start)


class UnitGaussianUNet(torch.nn.Module):
    """The perfect model of data N(0, 1): epsilon = sqrt(1 - abar) x, the level taken from the timestep."""

    config = perfect_denoiser("epsilon").unet.config

    def __init__(self) -> None:
        super().__init__()
        self.precision = torch.nn.Parameter(torch.zeros(1))

    def forward(self, z: torch.Tensor, t: torch.Tensor, **_: Any) -> tuple[torch.Tensor]:
        sigma = math.exp(math.log(0.0291675) + float(t[0]) / 999 * math.log(14.614642 / 0.0291675))
        return (z * sigma / math.hypot(1, sigma),)
