import pytest
import torch
from diffusers.training_utils import EMAModel
from torch import nn

from training.ema import Ema


@pytest.mark.parametrize(
    ("step", "decay"),
    [(1, 0), (100, 0.968377), (1000, 0.994377), (10000, 0.999), (215445, 0.9999), (400000, 0.9999)],
)
def test_the_decay_is_that_of_k_diffusion_and_of_diffusers(step, decay):
    assert Ema(nn.Linear(1, 1), 0.75, 0.9999).decay(step) == pytest.approx(decay, abs=5e-7)
    theirs = EMAModel([], decay=0.9999, use_ema_warmup=True, power=0.75)
    assert theirs.get_decay(step) == pytest.approx(decay, abs=5e-7)


def test_the_first_average_is_the_first_steps_weights():
    module = nn.Linear(2, 2)
    ema = Ema(module, 0.75, 0.9999)
    torch.nn.init.normal_(module.weight)
    ema.update(module, 1)
    assert torch.equal(ema.weights["weight"], module.weight)


def test_the_average_follows_the_written_formula():
    module = nn.Linear(2, 2)
    ema = Ema(module, 0.75, 0.99)
    expected = module.weight.detach().clone()
    for step in range(1, 6):
        with torch.no_grad():
            module.weight.add_(torch.randn(2, 2))
        ema.update(module, step)
        decay = min(1 - step**-0.75, 0.99)
        expected = decay * expected + (1 - decay) * module.weight.detach()
    assert torch.allclose(ema.weights["weight"], expected, atol=1e-6)
    ema.copy_to(module)
    assert torch.equal(module.weight, ema.weights["weight"])
