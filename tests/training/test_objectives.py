"""On data N(MEAN, STD^2) every objective's best answer and its loss are known, so training needs no luck."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from models.denoiser import Denoiser
from models.errors import ConfigError
from models.text_encoder import TextStates
from models.unet import build_unet
from pipelines.noise import Noise
from pipelines.samplers import SAMPLERS, make_scheduler
from tests.pipelines.gaussian import (
    MEAN,
    STABLE_DIFFUSION_BETAS,
    STATES,
    STD,
    PerfectUNet,
    draw,
    relative_error,
)
from training.config import DiffusionConfig, DiffusionModel, load_config
from training.finetune import resolve_diffusion
from training.objectives import Epsilon, Objective, VPrediction, build_objective

# numpy 2 has words for how diffusers turns tensors into arrays.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

PREDICTIONS = ("flow", "epsilon", "v_prediction")
TIMESTEPS = (20, 100, 300, 500, 700, 900, 980)


def objective_of(prediction: str, unet: nn.Module | None = None, **options: float) -> Objective:
    return build_objective(unet or nn.Identity(), DiffusionModel(prediction=prediction, **options))


def perfect(prediction: str) -> Objective:
    """An objective around the best UNet for it."""
    objective = objective_of(prediction)
    objective.unet = PerfectUNet(objective.prediction, objective.betas)
    return objective


def levels(objective: Objective, timestep: int) -> tuple[float, float]:
    """What latents and noise are multiplied with."""
    one, none = torch.ones(1, 1, 1, 1), torch.zeros(1, 1, 1, 1)
    at = torch.tensor([timestep])
    return float(objective.noised(one, none, at)), float(objective.noised(none, one, at))


class Askew(nn.Module):
    """Answers a UNet's answer a * output + b."""

    def __init__(self, unet: nn.Module, scale: float, shift: float) -> None:
        super().__init__()
        self.unet, self.scale, self.shift, self.config = unet, scale, shift, unet.config

    def forward(self, z: Tensor, t: Tensor, **words: object) -> tuple[Tensor]:
        return (self.scale * self.unet(z, t, **words)[0] + self.shift,)


@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_the_perfect_model_has_the_analytic_loss_and_no_other_has_less(prediction: str) -> None:
    objective = perfect(prediction)
    generator = torch.Generator().manual_seed(0)
    latents = MEAN + STD * torch.randn(64, 4, 16, 16, generator=generator)
    noise = torch.randn(latents.shape, generator=generator)
    for timestep in TIMESTEPS:
        at = torch.full((len(latents),), timestep)
        best = float(objective.errors(latents, noise, at, STATES).mean())
        a, b = levels(objective, timestep)
        # Var(target | z_t) of jointly normal target and z_t = a z + b e; for v, a^2 + b^2 = 1.
        unknown = (a * STD) ** 2 if prediction == "epsilon" else STD**2
        exact = unknown / ((a * STD) ** 2 + b**2)
        assert best == pytest.approx(exact, rel=4 * math.sqrt(2 / latents.numel()))
        for scale, shift in ((0.95, 0.0), (1.05, 0.0), (1.0, 0.05), (1.0, -0.05)):
            other = perfect(prediction)
            other.unet = Askew(objective.unet, scale, shift)
            assert float(other.errors(latents, noise, at, STATES).mean()) > best, (timestep, scale, shift)


@pytest.mark.parametrize("prediction", PREDICTIONS)
@pytest.mark.parametrize("row", [r for r in SAMPLERS.values() if not r.stochastic], ids=lambda row: row.name)
def test_what_an_objective_trains_is_drawn_by_every_sampler(prediction: str, row) -> None:
    objective = perfect(prediction)
    exported = objective.denoiser(objective.unet).scheduler_config()
    denoiser = Denoiser.from_scheduler_config(objective.unet, exported)
    latents, events = draw(denoiser, make_scheduler(row, "Automatic", denoiser, 40))
    # LDM's process reaches further into the noise than Stable Diffusion's, whose errors test_samplers states.
    assert relative_error(latents, events) < (0.1 if row.name in ("Euler", "DDIM") else 0.01)


@pytest.mark.parametrize(("kind", "weights"), [(Epsilon, (5 / 9, 1, 1)), (VPrediction, (0.5, 0.5, 0.1))])
def test_min_snr_weights_are_those_of_a_table_made_by_hand(kind: type[Epsilon], weights) -> None:
    abar = torch.tensor([0.9, 0.5, 0.1], dtype=torch.float64)  # SNR 9, 1, 1/9
    betas = 1 - abar / torch.cat([abar.new_ones(1), abar[:-1]])
    found = kind(nn.Identity(), betas, min_snr_gamma=5.0).weight(torch.arange(3))
    torch.testing.assert_close(found, torch.tensor(weights, dtype=torch.float32))
    assert kind(nn.Identity(), betas).weight(torch.arange(3)).tolist() == [1, 1, 1]


@pytest.mark.parametrize("kind", [Epsilon, VPrediction])
def test_min_snr_weights_are_positive_numbers_from_end_to_end(kind: type[Epsilon]) -> None:
    for betas in (STABLE_DIFFUSION_BETAS, objective_of("epsilon").betas):
        weights = kind(nn.Identity(), betas, min_snr_gamma=5.0).weight(torch.arange(1000))
        assert torch.isfinite(weights).all()
        assert float(weights.min()) > 0
        assert float(weights.max()) <= 1
    if kind is Epsilon:  # published for Stable Diffusion's process: 5 / 1175.5
        first = kind(nn.Identity(), STABLE_DIFFUSION_BETAS, min_snr_gamma=5.0).weight(torch.tensor([0]))
        assert float(first) == pytest.approx(0.0043, abs=5e-5)


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
@pytest.mark.parametrize("gamma", [0.1, 1.0, 5.0, 20.0])
def test_min_snr_is_a_clamped_loss_on_the_latents(prediction: str, gamma: float) -> None:
    objective = objective_of(prediction, min_snr_gamma=gamma).double()
    at = torch.arange(1000)
    latents, noise, output = (torch.randn(1000, 1, 4, 4, dtype=torch.float64) for _ in range(3))
    z_t = objective.noised(latents, noise, at)
    one, none = torch.ones_like(latents), torch.zeros_like(latents)
    a, b = objective.noised(one, none, at), objective.noised(none, one, at)
    guess = (z_t - b * output) / a if prediction == "epsilon" else a * z_t - b * output
    error = (output - objective.target(latents, noise, at)).square().mean((1, 2, 3))
    clamped = (a / b).square().clamp(max=gamma) * (guess - latents).square()
    torch.testing.assert_close(objective.weight(at) * error, clamped.mean((1, 2, 3)), rtol=1e-5, atol=0)


def test_min_snr_is_refused_on_a_flow() -> None:
    with pytest.raises(ConfigError, match=r"min_snr_gamma = 5\.0 .* model\.prediction"):
        resolve_diffusion(load_config(DiffusionConfig, "tiny-diffusion", ["model.min_snr_gamma=5"]))


def test_noised_latents_and_targets_are_those_of_diffusers() -> None:
    from diffusers import DDPMScheduler, FlowMatchEulerDiscreteScheduler

    latents, noise = torch.randn(4, 4, 8, 8), torch.randn(4, 4, 8, 8)
    at = torch.tensor([0, 1, 500, 999])
    theirs = DDPMScheduler(beta_schedule="scaled_linear", beta_start=0.0015, beta_end=0.0195)
    for prediction in ("epsilon", "v_prediction"):
        ours = objective_of(prediction)
        torch.testing.assert_close(
            ours.noised(latents, noise, at), theirs.add_noise(latents, noise, at), atol=1e-4, rtol=1e-4
        )
    torch.testing.assert_close(
        ours.target(latents, noise, at), theirs.get_velocity(latents, noise, at), atol=1e-4, rtol=1e-4
    )
    flow, straight = objective_of("flow"), FlowMatchEulerDiscreteScheduler()
    at = straight.timesteps[[0, 300, 998]]
    torch.testing.assert_close(
        flow.noised(latents[:3], noise[:3], at), straight.scale_noise(latents[:3], at, noise[:3])
    )


@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_the_right_answer_points_at_the_latents(prediction: str) -> None:
    objective = objective_of(prediction)
    latents, noise = torch.randn(2, len(TIMESTEPS), 4, 3, 3, generator=torch.Generator().manual_seed(5))
    timestep = torch.tensor(TIMESTEPS)
    z_t, answer = (part(latents, noise, timestep) for part in (objective.noised, objective.target))
    assert torch.allclose(objective.denoised(z_t, answer, timestep), latents, atol=1e-4)


def test_the_process_of_ldm_ends_in_almost_no_signal() -> None:
    # Published for text2img256, beta 0.0015 to 0.0195: terminal SNR 1.4e-4, sigma 83.8.
    a, b = levels(objective_of("epsilon"), 999)
    assert (a / b) ** 2 == pytest.approx(1.4e-4, rel=0.05)
    assert b / a == pytest.approx(83.8, rel=1e-3)
    stable_diffusion = objective_of("v_prediction", beta_start=0.00085, beta_end=0.012)
    torch.testing.assert_close(stable_diffusion.betas, STABLE_DIFFUSION_BETAS)


def test_a_flow_runs_from_latents_to_noise_at_the_velocity_that_costs_nothing() -> None:
    # In double precision, of which a difference leaves enough.
    latents, noise = torch.randn(2, 3, 4, 2, 2, dtype=torch.float64)
    flow = objective_of("flow")
    start, early, late, end = (
        flow.noised(latents, noise, torch.full((3,), t, dtype=torch.float64))
        for t in (0.0, 400.0, 500.0, 1000.0)
    )
    assert torch.equal(start, latents)
    assert torch.equal(end, noise)
    torch.testing.assert_close((late - early) / 0.1, flow.target(latents, noise, torch.zeros(3)))


def test_timesteps_follow_their_distribution() -> None:
    uniform = (torch.arange(100_000) + 0.5) / 100_000
    logit_normal = torch.distributions.TransformedDistribution(
        torch.distributions.Normal(0.0, 1.0), [torch.distributions.SigmoidTransform()]
    )
    torch.testing.assert_close(
        objective_of("flow").timesteps(uniform), 1000 * logit_normal.icdf(uniform), atol=1e-2, rtol=1e-4
    )
    for prediction in ("epsilon", "v_prediction"):
        steps = objective_of(prediction).timesteps(uniform)
        assert torch.bincount(steps).tolist() == [100] * 1000
    ends = torch.tensor([0.0, 1 - 2.0**-24])  # the least and the most that are drawn
    for prediction, most in (("flow", 1000), ("epsilon", 999)):
        first, last = objective_of(prediction).timesteps(ends).tolist()
        assert first == 0
        assert 990 < last <= most


@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_the_loss_is_the_weighted_mean_and_finite_at_both_ends(prediction: str) -> None:
    gamma = 0.0 if prediction == "flow" else 5.0
    objective = objective_of(prediction, build_unet("tiny", 4, 32), min_snr_gamma=gamma)
    latents, noise = torch.randn(2, 4, 8, 8), torch.randn(2, 4, 8, 8)
    words = TextStates(torch.randn(2, 3, 32), torch.ones(2, 3, dtype=torch.bool), torch.randn(2, 32))
    at = objective.timesteps(torch.tensor([0.0, 1 - 2.0**-24]))
    loss, _ = objective(latents, noise, at, words)
    # An untrained denoiser answers 0, so its error is the target itself.
    squares = objective.target(latents, noise, at).square().flatten(1).mean(1)
    torch.testing.assert_close(loss, (objective.weight(at) * squares).mean())
    assert torch.isfinite(loss)


@pytest.mark.slow
@pytest.mark.parametrize(
    # The distance is that of a drawn latent from the learned one, of which another one is 1.4 away. Samplers
    # begin where noise is 84 times the signal with epsilon and v, and an error in epsilon grows as much.
    ("prediction", "steps", "distance"),
    [
        ("flow", 300, 0.1),
        pytest.param("epsilon", 600, 0.4, marks=pytest.mark.exhaustive),
        pytest.param("v_prediction", 400, 0.15, marks=pytest.mark.exhaustive),
    ],
)
def test_four_latents_are_learned_by_heart_and_drawn_again(
    prediction: str, steps: int, distance: float
) -> None:
    torch.manual_seed(0)
    latents = torch.randn(4, 4, 4, 4)
    words = TextStates(torch.randn(4, 3, 32), torch.ones(4, 3, dtype=torch.bool), torch.randn(4, 32))
    unet = build_unet("tiny", 4, 32)
    objective = objective_of(prediction, unet)
    rows = list(range(4)) * 16

    def loss() -> Any:
        at = objective.timesteps(torch.rand(len(rows)))
        return objective(latents[rows], torch.randn(len(rows), 4, 4, 4), at, words.select(rows))[0]

    @torch.no_grad()
    def measured() -> float:
        return sum(float(loss()) for _ in range(8)) / 8

    start = measured()
    optimizer = torch.optim.Adam(unet.parameters(), betas=(0.9, 0.99))
    rate = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, steps, pct_start=0.05)
    for _ in range(steps):
        optimizer.zero_grad()
        loss().backward()
        optimizer.step()
        rate.step()
    assert measured() < 0.02 * start
    denoiser = objective.denoiser(unet.eval())
    for name in ("UniPC", "DPM++ 2M"):
        for row in range(4):
            one = words.select([row])
            scheduler = make_scheduler(SAMPLERS[name], "Automatic", denoiser, 20)
            drawn, _ = draw(denoiser, scheduler, Noise([row]), (4, 4, 4), cond=one, uncond=one)
            assert float((drawn[0] - latents[row]).norm() / latents[row].norm()) < distance
