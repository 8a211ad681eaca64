"""Doubling and convolving as one convolution on the small grid, which a CPU does in half the time."""

from itertools import product
from typing import Any

import torch
from diffusers.models.upsampling import Upsample2D
from torch import Tensor, nn
from torch.jit._trace import is_tracing

MIN_POSITIONS = 1024  # of a batch; below that the sums of the weights cost what the products save


class SmallGridUpsample(Upsample2D):  # type: ignore[misc]
    """diffusers' Upsample2D with the same weights: each 2x2 of its output from 2x2 neighbours of its input.

    On a doubled picture a 3x3 kernel meets an input pixel up to four times. Its weights summed beforehand are
    a 2x2 kernel for each of the four phases of the output: 4/9 of the products, and other roundings.
    (Sub-pixel convolution, Shi et al. 1609.05158, is four such phases, learned.) Small inputs, other devices
    and sizes that are not the double take diffusers' own way, and so does what is traced, since the choice
    hangs on the size.
    """

    def __init__(self, usual: Upsample2D) -> None:
        super().__init__(usual.channels, out_channels=usual.out_channels)
        self.use_conv, self.conv = True, usual.conv

    def forward(self, hidden_states: Tensor, output_size: Any = None, *args: Any, **kwargs: Any) -> Tensor:
        """(B, C, h, w) -> (B, C', 2h, 2w), or the size that is asked for."""
        batch, _, height, width = hidden_states.shape
        doubled = output_size is None or tuple(output_size) == (2 * height, 2 * width)
        large = hidden_states.is_cpu and batch * height * width >= MIN_POSITIONS
        adapted = type(self.conv) is not nn.Conv2d
        if adapted or not (doubled and large) or is_tracing():  # type: ignore[no-untyped-call]
            usual: Tensor = super().forward(hidden_states, output_size, *args, **kwargs)
            return usual
        bias = None if self.conv.bias is None else self.conv.bias.repeat(4)
        phases: Tensor = self.conv._conv_forward(hidden_states, phase_kernels(self.conv.weight), bias)
        phases = phases.view(batch, 2, 2, -1, height + 1, width + 1)  # of rows, of columns, C', h + 1, w + 1
        output = phases.new_empty(batch, phases.shape[3], height, 2, width, 2)
        for row, column in product((0, 1), (0, 1)):
            phase = phases[:, row, column, :, row : row + height, column : column + width]
            output[:, :, :, row, :, column] = phase
        return output.view(batch, -1, 2 * height, 2 * width)


def phase_kernels(kernel: Tensor) -> Tensor:
    """A kernel for doubled pictures as four for the picture itself; (O, I, 3, 3) -> (4 O, I, 2, 2).

    In an even row of the output the upper third of the kernel lies on the input's row above, the rest on its
    own; in an odd row the lower third lies on the row below.
    """
    upper, middle, lower = kernel.unbind(2)  # (O, I, 3) each
    rows = torch.stack([torch.stack([upper, middle + lower], 2), torch.stack([upper + middle, lower], 2)])
    left, middle, right = rows.unbind(4)  # (2, O, I, 2) each
    columns = [torch.stack([left, middle + right], 4), torch.stack([left + middle, right], 4)]
    return torch.stack(columns, 1).flatten(0, 2)  # (row, column, O, I, 2, 2) -> (4 O, I, 2, 2)


def upsample_on_small_grids(network: nn.Module) -> None:
    """Have every layer of a network that doubles and convolves do so on the small grid."""
    for parent in list(network.modules()):
        for name, layer in parent.named_children():
            plain = type(layer) is Upsample2D and layer.interpolate and layer.norm is None
            if plain and type(layer.conv) is nn.Conv2d and layer.conv.kernel_size == (3, 3):
                setattr(parent, name, SmallGridUpsample(layer))
