"""The reference: a UNet on torch, in the precision of its weights, with what a prompt costs paid once."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from models.denoiser import UNetRunner
from models.text_encoder import TextStates
from pipelines.runners.attention import PromptAttention, cross_attentions, plain, processors


class TorchRunner(UNetRunner):
    """Computes the keys and values of a prompt once and not at every step; the same bits as UNetRunner.

    The UNet's processors are changed during a call alone, so nobody else who runs it meets them. `compiled`:
    its transformer blocks go through torch.compile, at the first step, which changes the last bits.
    """

    def __init__(self, unet: nn.Module, compiled: bool = False) -> None:
        super().__init__(unet)
        self._states: TextStates | None = None
        self._layers = cross_attentions(unet)
        if compiled:
            unet.compile_repeated_blocks(dynamic=True)  # type: ignore[operator]
        # What is compiled keeps the processors that it was compiled with.
        kept = [] if compiled else [name for name, layer in self._layers.items() if plain(layer)]
        self._attention = {name: PromptAttention() for name in kept}

    def __call__(self, z: Tensor, t: Tensor, states: TextStates, residuals: Sequence[Tensor] = ()) -> Tensor:
        """Model output (B, C, h, w) in z's own precision."""
        if self._states is None or not _same(states, self._states):
            self._states = states.to(states.device, next(self.unet.parameters()).dtype)
        with processors(self._layers, self._attention):
            return super().__call__(z, t, self._states, residuals)


def _same(states: TextStates, others: TextStates) -> bool:
    """Whether text states are equal: by value, which takes no time beside a step of the UNet."""
    given, before = ((one.hidden, one.mask, one.pooled) for one in (states, others))
    return all(torch.equal(new.to(old.dtype), old) for new, old in zip(given, before, strict=True))
