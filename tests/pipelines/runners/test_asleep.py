"""Networks that OpenVINO computes in the place of: out of memory, and there again for whoever runs them."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from models.autoencoder import Regularizer, build_autoencoder
from models.errors import ModelError
from models.folder import load_model, save_part
from models.text_encoder import TextStates
from pipelines.local_engine import LocalEngine
from pipelines.memory import ModelBytes, OutOfMemoryError, Plan, WorkBytes
from pipelines.request import GenerationRequest
from pipelines.runners.asleep import fall_asleep, wake, wake_autoencoder
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


@pytest.mark.parametrize("kind", ["kl", "vq"])
def test_what_encodes_and_decodes_has_its_own_weights_again(
    tiny_model_folder: Path, tmp_path: Path, kind: Regularizer
) -> None:
    folder = shutil.copytree(tiny_model_folder, tmp_path / "model")
    save_part(build_autoencoder("tiny", kind).vae, folder / "vae")
    model, other = load_model(folder), load_model(folder).autoencoder
    pixels = torch.rand(1, 3, 32, 32) * 2 - 1
    latents = other.encode(pixels)
    for _ in range(2):
        fall_asleep(model)
        assert asleep(model.autoencoder.vae.encoder)
        assert asleep(model.autoencoder.vae.decoder)
        assert torch.equal(model.autoencoder.decode(latents), other.decode(latents))
        assert torch.equal(model.autoencoder.encode(pixels), latents)
        assert asleep(model.denoiser.unet)  # nobody asked for it
        assert not any(parameter.requires_grad for parameter in model.autoencoder.parameters())


def test_an_engine_keeps_no_weights_that_its_graph_has(
    tiny_model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(GRAPHS_VARIABLE, str(tmp_path))
    own, given = (
        LocalEngine(model, "cpu", runner="openvino")
        for model in (tiny_model_folder, load_model(tiny_model_folder))
    )
    assert asleep(own.model.denoiser.unet)
    assert asleep(own.model.autoencoder.vae.decoder)
    assert not asleep(given.model.denoiser.unet)  # somebody else may draw with it, too


def test_memory_that_does_for_a_graph_does_for_its_second_picture_and_not_for_torch(
    tiny_model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(GRAPHS_VARIABLE, str(tmp_path))
    engine = LocalEngine(tiny_model_folder, "cpu", runner="openvino")
    request = GenerationRequest(
        prompt="a red apple", width=32, height=32, steps=1, guidance_scale=2.0, sampler="Euler"
    )
    unet, vae = engine.model.denoiser.unet.config, engine.model.autoencoder.vae.config
    part = ModelBytes.of_folder(tiny_model_folder)
    needed = Plan(images=1).needs(part, WorkBytes.of(unet, vae, (32, 32)))
    free = needed - part.text_encoder - part.denoiser + 4096  # a few buffers are no weights
    assert part.denoiser > 2 * 4096
    monkeypatch.setattr("pipelines.placement.free_memory_bytes", lambda: free)
    for _ in range(2):
        *_, result = engine.generate(request)
        assert result.engine.startswith("openvino")
    with pytest.raises(OutOfMemoryError, match="choose a smaller size"):
        list(engine.generate(replace(request, tiling=True)))
    assert asleep(engine.model.denoiser.unet)


def test_a_model_that_another_engine_put_to_sleep_is_awake_for_the_next(
    tiny_model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(GRAPHS_VARIABLE, str(tmp_path))
    first = LocalEngine(tiny_model_folder, "cpu", runner="openvino")
    assert asleep(first.model.denoiser.unet)
    second = LocalEngine(first.model, "cpu", runner="openvino")
    assert not asleep(second.model.denoiser.unet)
    assert not asleep(second.model.autoencoder.vae.encoder)


def test_the_weights_of_another_model_are_not_taken(tmp_path: Path) -> None:
    folder = make_tiny_model(tmp_path / "model", seed=0)
    model = load_model(folder)
    fall_asleep(model)
    shutil.rmtree(folder)
    make_tiny_model(folder, seed=1)
    with pytest.raises(ModelError, match="was replaced since it was opened"):
        wake(model)
    with pytest.raises(ModelError, match="was replaced since it was opened"):
        wake_autoencoder(model)
