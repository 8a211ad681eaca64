from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file

from models.errors import ModelError
from models.lpips import LpipsVgg
from training.losses import perceptual

# torchvision's vgg16().features by number: (inputs, outputs) of convolutions; pooling before 5, 10, 17, 24.
CONVOLUTIONS = {
    0: (3, 64), 2: (64, 64), 5: (64, 128), 7: (128, 128), 10: (128, 256), 12: (256, 256), 14: (256, 256),
    17: (256, 512), 19: (512, 512), 21: (512, 512), 24: (512, 512), 26: (512, 512), 28: (512, 512),
}  # fmt: skip
LAST_OF_SLICE = {2: 1, 7: 2, 14: 3, 21: 4, 28: 5}  # relu1_2, relu2_2, relu3_3, relu4_3, relu5_3


def package_weights(seed: int = 0) -> dict[str, torch.Tensor]:
    """Random weights under the names of lpips.LPIPS(net="vgg").state_dict(), version 0.1.4."""
    generator = torch.Generator().manual_seed(seed)
    weights, number = {}, 1
    for index, (inputs, outputs) in CONVOLUTIONS.items():
        gain = (2 / (9 * inputs)) ** 0.5
        kernel = torch.randn(outputs, inputs, 3, 3, generator=generator) * gain
        weights[f"net.slice{number}.{index}.weight"] = kernel
        weights[f"net.slice{number}.{index}.bias"] = 0.1 * torch.randn(outputs, generator=generator)
        if index in LAST_OF_SLICE:
            weights[f"lin{number - 1}.model.1.weight"] = torch.rand(1, outputs, 1, 1, generator=generator)
            number += 1
    weights["scaling_layer.shift"] = torch.tensor([-0.030, -0.088, -0.188]).view(1, 3, 1, 1)
    weights["scaling_layer.scale"] = torch.tensor([0.458, 0.448, 0.450]).view(1, 3, 1, 1)
    return weights


def published_distance(weights: dict[str, torch.Tensor], x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """LPIPS as its package computes it: unit features, squared differences, 1x1 heads, means, sum."""
    shift, scale = weights["scaling_layer.shift"], weights["scaling_layer.scale"]
    x, y = (x - shift) / scale, (y - shift) / scale
    total, number = torch.zeros(len(x)), 1
    for index in CONVOLUTIONS:
        if index in (5, 10, 17, 24):
            x, y = F.max_pool2d(x, 2), F.max_pool2d(y, 2)
        kernel, bias = (weights[f"net.slice{number}.{index}.{part}"] for part in ("weight", "bias"))
        x, y = (F.relu(F.conv2d(one, kernel, bias, padding=1)) for one in (x, y))
        if index in LAST_OF_SLICE:
            unit_x, unit_y = (one / (one.square().sum(1, keepdim=True).sqrt() + 1e-10) for one in (x, y))
            head = weights[f"lin{number - 1}.model.1.weight"]
            total = total + F.conv2d((unit_x - unit_y).square(), head).mean((1, 2, 3))
            number += 1
    return total


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("lpips") / "lpips-vgg.safetensors"
    save_file(package_weights(), path)
    return path


def test_the_distance_is_the_published_one(file: Path) -> None:
    x, y = torch.rand(2, 3, 32, 48) * 2 - 1, torch.rand(2, 3, 32, 48) * 2 - 1
    expected = published_distance(package_weights(), x, y).mean()
    assert expected > 0.01
    torch.testing.assert_close(perceptual(LpipsVgg.from_file(file), x, y), expected, rtol=1e-5, atol=0)


def test_its_convolutions_are_those_of_vgg16() -> None:
    network = LpipsVgg()
    assert sum(p.numel() for p in network.net.parameters()) == 14_714_688  # vgg16().features of torchvision
    assert [tuple(weights.shape) for weights in network.channel_weights] == [
        (channels, 1, 1) for channels in (64, 128, 256, 512, 512)
    ]


def test_a_network_from_a_file_is_frozen_without_dropout(file: Path) -> None:
    network = LpipsVgg.from_file(file)
    assert not network.training
    assert not any(p.requires_grad for p in network.parameters())


def test_files_that_hold_something_else_are_refused(tmp_path: Path) -> None:
    weights = package_weights()
    del weights["lin3.model.1.weight"]
    save_file(weights, tmp_path / "lacks.safetensors")
    with pytest.raises(ModelError, match=r"lacks 1 tensors, first 'lin3\.model\.1\.weight'"):
        LpipsVgg.from_file(tmp_path / "lacks.safetensors")
    for name in ("vgg.pth", "nowhere.safetensors"):
        with pytest.raises(ModelError, match=name):
            LpipsVgg.from_file(tmp_path / name)
