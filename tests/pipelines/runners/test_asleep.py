"""A UNet that OpenVINO draws in the place of: out of memory, and there again for whoever runs it."""

import shutil
from pathlib import Path

import pytest
import torch

from models.errors import ModelError
from models.folder import load_model
from models.text_encoder import TextStates
from pipelines.engine import LocalEngine
from pipelines.runners.asleep import fall_asleep, wake
from pipelines.runners.folder import GRAPHS_VARIABLE
from tests.tiny import make_tiny_model

pytestmark = pytest.mark.slow


def asleep(unet: torch.nn.Module) -> bool:
    return all(parameter.is_meta for parameter in unet.parameters())


def test_what_is_run_has_its_own_weights_again(tiny_model_folder: Path) -> None:
    model, other = load_model(tiny_model_folder), load_model(tiny_model_folder)
    states: TextStates = model.text_encoder.encode(["a red apple"])
    given = torch.randn(1, model.autoencoder.latent_channels, 8, 8), torch.full((1,), 500.0), states
    for _ in range(2):
        fall_asleep(model)
        assert asleep(model.denoiser.unet)
        assert torch.equal(model.denoiser.runner(*given), other.denoiser.runner(*given))
        assert not asleep(model.denoiser.unet)
        assert not any(parameter.requires_grad for parameter in model.denoiser.unet.parameters())


def test_an_engine_keeps_no_weights_that_its_graph_has(
    tiny_model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(GRAPHS_VARIABLE, str(tmp_path))
    own, given = (
        LocalEngine(model, "cpu", runner="openvino")
        for model in (tiny_model_folder, load_model(tiny_model_folder))
    )
    assert asleep(own.model.denoiser.unet)
    assert not asleep(given.model.denoiser.unet)  # somebody else may draw with it, too


def test_the_weights_of_another_model_are_not_taken(tmp_path: Path) -> None:
    folder = make_tiny_model(tmp_path / "model", seed=0)
    model = load_model(folder)
    fall_asleep(model)
    shutil.rmtree(folder)
    make_tiny_model(folder, seed=1)
    with pytest.raises(ModelError, match="was replaced since it was opened"):
        wake(model)
