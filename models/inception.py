"""The Inception v3 of the Frechet inception distance, from a local file: its features are everyone's FID.

TensorFlow's network of 2015-12-05 (Szegedy et al. 1512.00567, as Heusel et al. 1706.08500 use it). It differs
from torchvision's: average pooling leaves the padding out, the last block pools by maximum, pictures are
resized as TensorFlow 1 did. torch-fidelity and pytorch-fid hold the same weights under the names used here.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Self, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.errors import ModelError
from models.weights import build_module, load_weights

SIZE = 299  # of the pictures it was trained on, in pixels
BATCH_NORM_EPSILON = 1e-3
# A branch is a chain of convolutions, (channels, (kernel height, kernel width)); HALF after one is its stride
# of 2 without padding, and FORK stands for the two side by side that end a branch.
ONE, THREE, FIVE, ACROSS, DOWN, FORK, HALF = (1, 1), (3, 3), (5, 5), (1, 7), (7, 1), ((1, 3), (3, 1)), True
Branches = dict[str, tuple[tuple[Any, ...], ...]]


def block_35(pool: int) -> Branches:
    """The branches of a block on 35x35 maps, their names as in the weights file after "branch"."""
    return {
        "1x1": ((64, ONE),),
        "5x5": ((48, ONE), (64, FIVE)),
        "3x3dbl": ((64, ONE), (96, THREE), (96, THREE)),
        "_pool": ((pool, ONE),),
    }


def block_17(wide: int) -> Branches:
    """The branches of a block on 17x17 maps."""
    return {
        "1x1": ((192, ONE),),
        "7x7": ((wide, ONE), (wide, ACROSS), (192, DOWN)),
        "7x7dbl": ((wide, ONE), (wide, DOWN), (wide, ACROSS), (wide, DOWN), (192, ACROSS)),
        "_pool": ((192, ONE),),
    }


BLOCK_8: Branches = {
    "1x1": ((320, ONE),),
    "3x3": ((384, ONE), (384, FORK)),
    "3x3dbl": ((448, ONE), (384, THREE), (384, FORK)),
    "_pool": ((192, ONE),),
}
TO_17: Branches = {"3x3": ((384, THREE, HALF),), "3x3dbl": ((64, ONE), (96, THREE), (96, THREE, HALF))}
TO_8: Branches = {
    "3x3": ((192, ONE), (320, THREE, HALF)),
    "7x7x3": ((192, ONE), (192, ACROSS), (192, DOWN), (192, THREE, HALF)),
}
BLOCKS: dict[str, tuple[int, Branches, str]] = {
    # channels that come in, branches, pooling
    "Mixed_5b": (192, block_35(32), "average"),
    "Mixed_5c": (256, block_35(64), "average"),
    "Mixed_5d": (288, block_35(64), "average"),
    "Mixed_6a": (288, TO_17, "halve"),
    "Mixed_6b": (768, block_17(128), "average"),
    "Mixed_6c": (768, block_17(160), "average"),
    "Mixed_6d": (768, block_17(160), "average"),
    "Mixed_6e": (768, block_17(192), "average"),
    "Mixed_7a": (768, TO_8, "halve"),
    "Mixed_7b": (1280, BLOCK_8, "average"),
    "Mixed_7c": (2048, BLOCK_8, "maximum"),
}
POOLING: dict[str, Callable[[Tensor], Tensor]] = {
    "average": lambda x: F.avg_pool2d(x, 3, stride=1, padding=1, count_include_pad=False),
    "maximum": lambda x: F.max_pool2d(x, 3, stride=1, padding=1),
    "halve": lambda x: F.max_pool2d(x, 3, stride=2),
}


class FrozenNorm(nn.Module):
    """Batch norm by the statistics of its training."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        for name in ("weight", "bias", "running_mean", "running_var"):
            self.register_buffer(name, torch.empty(channels))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H, W)."""
        mean, variance, weight, bias = map(self.get_buffer, ("running_mean", "running_var", "weight", "bias"))
        return F.batch_norm(x, mean, variance, weight, bias, eps=BATCH_NORM_EPSILON)


class Convolution(nn.Module):
    """Convolution, batch norm, ReLU."""

    def __init__(
        self, inputs: int, outputs: int, kernel: tuple[int, int], halve: bool = False, pad: bool = True
    ) -> None:
        super().__init__()
        padding = (kernel[0] // 2, kernel[1] // 2) if pad and not halve else 0
        self.conv = nn.Conv2d(inputs, outputs, kernel, 2 if halve else 1, padding, bias=False)
        self.bn = FrozenNorm(outputs)

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, H, W) -> (B, outputs, H', W')."""
        return F.relu(self.bn(self.conv(x)))


class Block(nn.Module):
    """Branches side by side, joined along the channels; pooled inputs, too, where no branch reads them."""

    def __init__(self, inputs: int, branches: Branches, pooling: str) -> None:
        super().__init__()
        self.pool = POOLING[pooling]
        self.branches: dict[str, list[list[str]]] = {}  # modules by name: those of a list are side by side
        for branch, steps in branches.items():
            channels, chain = inputs, []
            for number, (outputs, kernel, *halve) in enumerate(steps, 1):
                name = f"branch{branch}" + (f"_{number}" if len(steps) > 1 else "")
                pair = {f"{name}a": kernel[0], f"{name}b": kernel[1]} if kernel == FORK else {name: kernel}
                for own, shape in pair.items():
                    self.add_module(own, Convolution(channels, outputs, shape, *halve))
                channels = outputs
                chain.append(list(pair))
            self.branches[branch] = chain

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, H, W) -> (B, the sum of the branches' channels, H', W')."""
        parts = []
        for branch, chain in self.branches.items():
            h = self.pool(x) if branch == "_pool" else x
            for names in chain:
                h = torch.cat([self.get_submodule(name)(h) for name in names], 1)
            parts.append(h)
        if "_pool" not in self.branches:
            parts.append(self.pool(x))
        return torch.cat(parts, 1)


class FidInception(nn.Module):
    """Inception v3 up to its pooled features, frozen."""

    def __init__(self) -> None:
        super().__init__()
        self.Conv2d_1a_3x3 = Convolution(3, 32, THREE, halve=True)
        self.Conv2d_2a_3x3 = Convolution(32, 32, THREE, pad=False)
        self.Conv2d_2b_3x3 = Convolution(32, 64, THREE)
        self.Conv2d_3b_1x1 = Convolution(64, 80, ONE)
        self.Conv2d_4a_3x3 = Convolution(80, 192, THREE, pad=False)
        for name, block in BLOCKS.items():
            self.add_module(name, Block(*block))

    @classmethod
    def from_file(cls, file: Path | str) -> Self:
        """Read a safetensors file that holds the state dict of pytorch-fid or torch-fidelity.

        Raises: ModelError for any other kind of file, and for weights that are not this network's.
        """
        path = Path(file)
        if path.suffix != ".safetensors":
            raise ModelError(
                f"{path} is no .safetensors file; docs/training.md says how Inception is saved as one"
            )
        weights = {name: value for name, value in load_weights(path).items() if not name.startswith("fc.")}
        return cast(Self, build_module(cls, weights, path).eval().requires_grad_(False))

    def embed(self, pixels: Tensor) -> Tensor:
        """Pooled features (B, 2048), each at least 0, of pixels (B, 3, H, W) in [-1, 1]."""
        x = resize((pixels * 127.5 + 127.5 - 128) / 128)  # (B, 3, 299, 299), as the graph has it
        x = self.Conv2d_2b_3x3(self.Conv2d_2a_3x3(self.Conv2d_1a_3x3(x)))  # (B, 64, 147, 147)
        x = F.max_pool2d(x, 3, stride=2)  # (B, 64, 73, 73)
        x = self.Conv2d_4a_3x3(self.Conv2d_3b_1x1(x))  # (B, 192, 71, 71)
        x = F.max_pool2d(x, 3, stride=2)  # (B, 192, 35, 35)
        for name in BLOCKS:
            x = self.get_submodule(name)(x)
        return x.mean((2, 3))  # (B, 2048, 8, 8) -> (B, 2048)


def resize(pixels: Tensor) -> Tensor:
    """Bilinear to 299x299 with TensorFlow 1's grid: row i of N is read at i H / N, nothing is smoothed."""
    for dim in (2, 3):
        length = pixels.shape[dim]
        at = torch.arange(SIZE, device=pixels.device) * (length / SIZE)
        low = at.long()
        part = (at - low).unsqueeze(1) if dim == 2 else at - low
        first = pixels.index_select(dim, low)
        pixels = first + (pixels.index_select(dim, (low + 1).clamp(max=length - 1)) - first) * part
    return pixels
