"""LPIPS with VGG16 from a local file: the perceptual distance of the latent diffusion paper."""

from collections import OrderedDict
from pathlib import Path
from typing import Self, cast

import torch
from torch import Tensor, nn

from models.errors import ModelError
from models.weights import build_module, load_weights

SLICES = ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3))  # channels and convolutions up to each map
# Of pixels in [-1, 1]: ImageNet's mean and standard deviation, as the package `lpips` rounds them.
SHIFT = (-0.030, -0.088, -0.188)
SCALE = (0.458, 0.448, 0.450)


class LpipsVgg(nn.Module):
    """VGG16's five feature maps and what each of their channels weighs (Zhang et al. 2018, 1801.03924).

    Parameters are named as in `lpips.LPIPS(net="vgg").state_dict()` of the package lpips, version 0.1.
    """

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.ModuleDict()
        index, inputs = 0, 3  # numbered as the layers of torchvision's vgg16().features
        for number, (channels, convolutions) in enumerate(SLICES):
            layers: OrderedDict[str, nn.Module] = OrderedDict()
            if number:
                layers[str(index)] = nn.MaxPool2d(2)
                index += 1
            for _ in range(convolutions):
                layers[str(index)] = nn.Conv2d(inputs, channels, 3, padding=1)
                layers[str(index + 1)] = nn.ReLU()
                index, inputs = index + 2, channels
            self.net[f"slice{number + 1}"] = nn.Sequential(layers)
            head = nn.Sequential(nn.Dropout(), nn.Conv2d(channels, 1, 1, bias=False))
            self.add_module(f"lin{number}", nn.ModuleDict({"model": head}))

    @classmethod
    def from_file(cls, file: Path | str) -> Self:
        """Read a safetensors file that holds the package's state dict. Raises ModelError."""
        path = Path(file)
        if path.suffix != ".safetensors":
            raise ModelError(
                f"{path} is no .safetensors file; docs/training.md says how LPIPS is saved as one"
            )
        parts = ("net.", *(f"lin{number}." for number in range(len(SLICES))))
        weights = {name: tensor for name, tensor in load_weights(path).items() if name.startswith(parts)}
        return cast(Self, build_module(cls, weights, path).eval().requires_grad_(False))

    @property
    def channel_weights(self) -> list[Tensor]:
        """What the channels of each map weigh, (C, 1, 1) each."""
        heads = (self.get_submodule(f"lin{number}.model.1") for number in range(len(SLICES)))
        return [cast(Tensor, head.weight)[0] for head in heads]

    def maps(self, pixels: Tensor) -> list[Tensor]:
        """relu1_2, relu2_2, relu3_3, relu4_3 and relu5_3 of pixels (B, 3, H, W) in [-1, 1]."""
        shift, scale = (torch.tensor(v, device=pixels.device).view(1, 3, 1, 1) for v in (SHIFT, SCALE))
        x = (pixels - shift) / scale
        maps = []
        for part in self.net.values():
            x = part(x)  # (B, C, H / 2^number, W / 2^number)
            maps.append(x)
        return maps
