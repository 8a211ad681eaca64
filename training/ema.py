"""The moving average of the weights that is sampled from and exported."""

import torch
from torch import Tensor, nn

from training.distributed import whole


class Ema:
    """Averaged float32 copies of a module's trained parameters, by name.

    decay(step) = min(1 - step^-power, max_decay), so early averages forget fast and the first step's forgets
    the untrained weights wholly (k-diffusion's inverse schedule; diffusers' EMAModel with its warm-up).
    """

    def __init__(self, module: nn.Module, power: float, max_decay: float) -> None:
        self.power, self.max_decay = power, max_decay
        self.weights = {name: p.detach().clone().float() for name, p in module.named_parameters()}

    def decay(self, step: int) -> float:
        """The share of the old average that stays after optimiser step `step` (from 1)."""
        return min(1 - float(step**-self.power), self.max_decay)

    @torch.no_grad()
    def update(self, module: nn.Module, step: int) -> None:
        """Average in the weights after optimiser step `step`."""
        averages = list(self.weights.values())
        current: list[Tensor] = [p.detach() for p in module.parameters()]
        torch._foreach_lerp_(averages, current, 1 - self.decay(step))

    @torch.no_grad()
    def copy_to(self, target: nn.Module) -> None:
        """Put the averaged weights into a module of the same names; with sharded ones, in every process."""
        parameters = dict(target.named_parameters())
        for name, average in self.weights.items():
            parameters[name].copy_(whole(average))
