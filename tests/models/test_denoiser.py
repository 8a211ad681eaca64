import math

import pytest
import torch
from torch import Tensor

from models.denoiser import Denoiser, PredictionType, betas_from_config, flow_alphas_cumprod
from models.errors import ModelError
from models.text_encoder import TextStates
from models.unet import build_unet
from tests.pipelines.gaussian import MEAN, STABLE_DIFFUSION_BETAS, STATES, STD, perfect_denoiser


@pytest.mark.parametrize("prediction_type", ["flow", "epsilon", "v_prediction"])
@pytest.mark.parametrize("sigma", [0.03, 0.5, 3.0, 14.0])
def test_every_prediction_type_gives_the_same_epsilon(prediction_type: PredictionType, sigma: float) -> None:
    x = torch.linspace(-3, 3, 64, dtype=torch.float64).reshape(1, 4, 4, 4)
    signal, noise = 1 / math.hypot(1, sigma), sigma / math.hypot(1, sigma)
    exact = noise * (x - signal * MEAN) / ((signal * STD) ** 2 + noise**2)
    found = perfect_denoiser(prediction_type).epsilon(x, sigma, STATES)
    torch.testing.assert_close(found, exact, atol=1e-6, rtol=1e-6)


def test_a_flow_is_told_its_time_in_thousandths() -> None:
    denoiser = perfect_denoiser("flow")
    for time in (0.01, 0.25, 0.5, 0.99):
        assert denoiser.timestep(time / (1 - time)) == pytest.approx(1000 * time)


def test_a_step_of_training_comes_back_from_its_noise_level() -> None:
    denoiser = perfect_denoiser("epsilon")
    for step in (0, 1, 500, 999):
        abar = float(denoiser.alphas_cumprod[step])
        assert denoiser.timestep(math.sqrt((1 - abar) / abar)) == pytest.approx(step, abs=1e-6)
    assert denoiser.timestep(1e-9) == 0
    assert denoiser.timestep(1e9) == 999


def test_the_process_of_a_flow_has_its_noise_to_signal() -> None:
    abar = flow_alphas_cumprod()
    t = torch.arange(1, 1001, dtype=torch.float64) / 1001
    torch.testing.assert_close(((1 - abar) / abar).sqrt(), t / (1 - t))


def test_the_betas_of_stable_diffusion_are_those_of_compvis() -> None:
    config = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}
    abar = torch.cumprod(1 - betas_from_config(config), 0)
    assert abar[[0, 499, 999]].tolist() == pytest.approx([0.999150, 0.277669, 0.004660], abs=1e-6)
    torch.testing.assert_close(betas_from_config(config), STABLE_DIFFUSION_BETAS)


@pytest.mark.parametrize("schedule", ["linear", "scaled_linear", "squaredcos_cap_v2"])
def test_betas_are_those_of_diffusers(schedule: str) -> None:
    from diffusers import DDPMScheduler

    theirs = DDPMScheduler(beta_schedule=schedule).betas
    torch.testing.assert_close(
        betas_from_config({"beta_schedule": schedule}).float(), theirs, atol=1e-6, rtol=1e-4
    )


@pytest.mark.parametrize("prediction_type", ["flow", "epsilon", "v_prediction"])
@pytest.mark.parametrize("distilled", [False, True])
def test_a_scheduler_config_describes_the_same_denoiser(
    prediction_type: PredictionType, distilled: bool
) -> None:
    denoiser = perfect_denoiser(prediction_type, distilled)
    again = Denoiser.from_scheduler_config(denoiser.unet, denoiser.scheduler_config())
    assert (again.prediction_type, again.distilled) == (prediction_type, distilled)
    torch.testing.assert_close(again.alphas_cumprod, denoiser.alphas_cumprod, atol=1e-12, rtol=1e-9)


def test_diffusers_reads_the_scheduler_config() -> None:
    import diffusers

    for prediction_type in ("flow", "epsilon"):
        config = perfect_denoiser(prediction_type).scheduler_config()
        scheduler = getattr(diffusers, config["_class_name"]).from_config(config)
        scheduler.set_timesteps(10)
        assert scheduler.config.prediction_type == config["prediction_type"]


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"prediction_type": "sample"}, 'predicts "sample"'),
        ({"beta_schedule": "cosine"}, 'beta_schedule "cosine"'),
        ({"beta_start": "x"}, "cannot be read"),
        ({"num_train_timesteps": 10**9}, "1000000000 steps"),
        ({"trained_betas": [0.1, 2.0]}, "between 0 and 1"),
        ({"trained_betas": "abc"}, "cannot be read"),
        ({"beta_start": float("nan")}, "between 0 and 1"),
        ({"rescale_betas_zero_snr": True}, "zero terminal"),
    ],
)
def test_a_process_that_cannot_be_used_is_refused(config: dict[str, object], words: str) -> None:
    with pytest.raises(ModelError, match=words):
        Denoiser.from_scheduler_config(perfect_denoiser("flow").unet, config)


def test_a_real_unet_sees_text_time_and_mask() -> None:
    torch.manual_seed(0)
    unet = build_unet("tiny", 4, 32)
    for parameter in unet.parameters():
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.05)
    denoiser = Denoiser(unet.eval(), "flow")
    x = torch.randn(1, 4, 8, 8)

    def states(hidden: Tensor, pooled: Tensor, mask: Tensor) -> TextStates:
        return TextStates(hidden, mask, pooled)

    hidden, pooled, mask = torch.randn(1, 3, 32), torch.randn(1, 32), torch.ones(1, 3, dtype=torch.bool)
    with torch.inference_mode():
        first = denoiser.epsilon(x, 1.0, states(hidden, pooled, mask))
        assert first.shape == x.shape
        assert not torch.allclose(first, denoiser.epsilon(x, 1.5, states(hidden, pooled, mask)))
        assert not torch.allclose(first, denoiser.epsilon(x, 1.0, states(hidden + 1, pooled, mask)))
        assert not torch.allclose(first, denoiser.epsilon(x, 1.0, states(hidden, pooled + 1, mask)))
        masked = torch.tensor([[True, True, False]])
        one = denoiser.epsilon(x, 1.0, states(hidden, pooled, masked))
        hidden[:, 2] += 1
        torch.testing.assert_close(one, denoiser.epsilon(x, 1.0, states(hidden, pooled, masked)))


def test_half_precision_weights_keep_the_arithmetic_in_single() -> None:
    torch.manual_seed(0)
    unet = build_unet("tiny", 4, 32).to(torch.bfloat16).eval()
    states = TextStates(torch.randn(1, 3, 32), torch.ones(1, 3, dtype=torch.bool), torch.randn(1, 32))
    with torch.inference_mode():
        epsilon = Denoiser(unet, "flow").epsilon(torch.randn(1, 4, 8, 8), 1.0, states)
    assert epsilon.dtype == torch.float32
