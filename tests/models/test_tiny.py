import socket
from pathlib import Path

import pytest
import torch

from models.folder import load_model
from tests.tiny import SIDE_PIXELS, TEXT_DIM, make_tiny_model


def test_the_tiny_model_is_whole_and_small(tiny_model_folder: Path) -> None:
    model = load_model(tiny_model_folder)
    latents = torch.randn(2, 4, 8, 8)
    assert model.autoencoder.decode(latents).shape == (2, 3, SIDE_PIXELS, SIDE_PIXELS)
    states = model.text_encoder.encode(["a red apple", "a dog"])
    assert states.hidden.shape[-1] == TEXT_DIM
    output = model.denoiser.runner(latents[:1].repeat(2, 1, 1, 1), torch.tensor([500.0, 500.0]), states)
    assert output.shape == latents.shape
    assert (output[0] - output[1]).abs().mean() > 0.01  # the prompt counts
    assert sum(file.stat().st_size for file in tiny_model_folder.rglob("*")) < 4_000_000


def test_parameter_counts_of_the_tiny_model_stay(tiny_model_folder: Path) -> None:
    model = load_model(tiny_model_folder)
    counts = [
        sum(parameter.numel() for parameter in module.parameters())
        for module in (model.autoencoder, model.denoiser.unet, model.text_encoder)
    ]
    assert counts == [161_984, 1_043_332, 22_336]


def test_the_tiny_model_is_always_the_same_and_another_with_another_seed(
    tiny_model_folder: Path, tmp_path: Path
) -> None:
    again = load_model(make_tiny_model(tmp_path / "again"))
    assert again.model_id == load_model(tiny_model_folder).model_id
    assert load_model(make_tiny_model(tmp_path / "other", seed=1)).model_id != again.model_id


def test_making_it_does_not_touch_the_global_random_state(tmp_path: Path) -> None:
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    make_tiny_model(tmp_path / "tiny")
    assert torch.equal(torch.rand(1), expected)


@pytest.mark.parametrize("address", [("192.0.2.1", 9), ("example.org", 80)])
def test_no_test_can_reach_the_network(address: tuple[str, int]) -> None:
    with socket.socket() as outside, pytest.raises(OSError, match="tests stay on this machine"):
        outside.connect(address)
