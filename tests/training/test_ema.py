import pytest
import torch
from torch import nn

from training.ema import Ema


@pytest.mark.parametrize(("step", "decay"), [(100, 0.968612), (1000, 0.994381), (10000, 0.999)])
def test_the_decay_follows_the_power_law(step, decay):
    assert Ema(nn.Linear(1, 1), 0.75, 0.9999).decay(step) == pytest.approx(decay, abs=2e-5)


def test_the_average_follows_the_written_formula():
    module = nn.Linear(2, 2)
    ema = Ema(module, 0.75, 0.99)
    expected = module.weight.detach().clone()
    for step in range(1, 6):
        with torch.no_grad():
            module.weight.add_(torch.randn(2, 2))
        ema.update(module, step)
        decay = min(1 - (1 + step) ** -0.75, 0.99)
        expected = decay * expected + (1 - decay) * module.weight.detach()
    assert torch.allclose(ema.weights["weight"], expected, atol=1e-6)
    ema.copy_to(module)
    assert torch.equal(module.weight, ema.weights["weight"])
