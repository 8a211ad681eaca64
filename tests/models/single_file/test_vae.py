import json
from dataclasses import asdict
from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKL
from safetensors.torch import load_file, save_file

from models.errors import ModelError, RequestError
from models.folder import load_model
from models.single_file.vae import with_vae
from models.weights import sha256
from pipelines.files import write_whole
from pipelines.local_engine import OTHER_AUTOENCODER, LocalEngine
from pipelines.png import save_png
from pipelines.request import GenerationRequest
from pipelines.result import GenerationResult
from pipelines.runners.choice import CHOICE, Choice, processor
from pipelines.runners.folder import GRAPHS_VARIABLE, graph_folder
from tests.models.single_file.tiny import SIDE, halved, tiny_file, tiny_model, tiny_vae
from tests.tiny import make_tiny_model

ANOTHER = 5  # the seed of another autoencoder than the model's


def ldm_vae(path: Path, prefix: str = "") -> Path:
    """The file of an autoencoder alone, by LDM's names."""
    whole = load_file(tiny_file("sd1", path.with_name("whole.safetensors")))
    vae = {name: tensor for name, tensor in whole.items() if name.startswith("first_stage_model.")}
    named = {prefix + name.removeprefix("first_stage_model."): tensor for name, tensor in vae.items()}
    save_file({**named, f"{prefix}loss.logvar": torch.zeros(1)}, path)
    return path


def diffusers_vae(path: Path) -> Path:
    save_file(halved(tiny_vae(seed=ANOTHER)).state_dict(), path)
    return path


@pytest.mark.parametrize("prefix", ["", "first_stage_model."])
def test_an_autoencoder_by_ldms_names_is_the_one_that_it_was(tmp_path: Path, prefix: str) -> None:
    own = halved(tiny_vae())
    file = ldm_vae(tmp_path / "vae.safetensors", prefix)
    if not prefix:
        theirs = AutoencoderKL.from_single_file(
            str(file), config=_config(own, tmp_path / "folder"), local_files_only=True
        )
        assert all(torch.equal(own.state_dict()[name], w) for name, w in theirs.state_dict().items())
    model = with_vae(tiny_model("sd1"), file)
    found = model.autoencoder.vae.state_dict()
    assert all(torch.equal(weight, found[name]) for name, weight in own.state_dict().items())
    assert model.vae is not None
    assert (model.vae.name, model.vae.hash) == ("vae.safetensors", sha256(file)[:10])


def _config(vae: AutoencoderKL, folder: Path) -> str:
    vae.save_config(folder)
    return str(folder)


@pytest.mark.slow
def test_pictures_are_decoded_by_it_and_say_so(tmp_path: Path) -> None:
    request = GenerationRequest(
        prompt="a cat", width=SIDE, height=SIDE, steps=2, guidance_scale=2.0, sampler="Euler", seed=1
    )
    model, file = tiny_file("sd1", tmp_path / "a.safetensors"), diffusers_vae(tmp_path / "b.safetensors")
    engine = LocalEngine(model, "cpu", vae=file, runner="auto")
    *_, last, result = engine.generate(request)
    *_, plain = LocalEngine(model, "cpu").generate(request)
    assert isinstance(result, GenerationResult)
    assert isinstance(plain, GenerationResult)
    assert result.images[0].tobytes() != plain.images[0].tobytes()
    with torch.no_grad():
        wanted = tiny_vae(seed=ANOTHER).half().float().decode(last.denoised / 0.18215).sample
        assert torch.allclose(engine.model.autoencoder.decode(last.denoised), wanted, atol=1e-5)
    assert (result.model_id, plain.vae) == (plain.model_id, ("", ""))
    save_png(
        result.images[0],
        tmp_path / "a.png",
        result.pictures[0],
        model_name="a",
        model_id="b",
        extra=result.drawn_by,
    )
    said = (tmp_path / "a.png").read_bytes()
    assert f"VAE hash: {sha256(file)[:10]}, VAE: b.safetensors".encode() in said


@pytest.mark.slow
def test_torch_that_decodes_with_it_where_openvino_is_faster_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(GRAPHS_VARIABLE, str(tmp_path / "graphs"))
    request = GenerationRequest(
        prompt="a cat", width=SIDE, height=SIDE, steps=1, guidance_scale=2.0, sampler="Euler", seed=1
    )
    model, file = tiny_file("sd1", tmp_path / "a.safetensors"), diffusers_vae(tmp_path / "b.safetensors")
    engine = LocalEngine(model, "cpu", vae=file, runner="auto")
    *_, result = engine.generate(request)
    assert result.note == ""  # nothing was measured
    for torch_seconds, note in ((1.0, ""), (9.0, OTHER_AUTOENCODER)):
        choice = Choice(
            processor=processor(), engine="openvino", torch_seconds=torch_seconds, openvino_seconds=2.0
        )
        write_whole(graph_folder(engine.model.model_id) / CHOICE, json.dumps(asdict(choice)).encode())
        *_, result = engine.generate(request)
        assert result.engine.startswith("torch")
        assert result.note == note
        *_, result = engine.on_torch().generate(request)
        assert result.note == ""


def test_what_does_not_fit_is_said(tmp_path: Path) -> None:
    model = tiny_model("sd1")
    for name, vae, words in (
        ("channels", AutoencoderKL(block_out_channels=(32,) * 4, latent_channels=16), "16 latent channels"),
        ("size", AutoencoderKL(block_out_channels=(32,) * 3, latent_channels=4), "4 pixels a latent"),
    ):
        levels = len(vae.config.block_out_channels)
        vae = AutoencoderKL(
            block_out_channels=(32,) * levels,
            latent_channels=vae.config.latent_channels,
            down_block_types=("DownEncoderBlock2D",) * levels,
            up_block_types=("UpDecoderBlock2D",) * levels,
        )
        save_file(vae.state_dict(), tmp_path / f"{name}.safetensors")
        with pytest.raises(ModelError, match=words):
            with_vae(model, tmp_path / f"{name}.safetensors")
    file = diffusers_vae(tmp_path / "a.safetensors")
    with pytest.raises(ModelError, match="of its own kind"):
        with_vae(load_model(make_tiny_model(tmp_path / "tiny")), file)
    save_file({"lora_unet_a": torch.zeros(1)}, tmp_path / "lora.safetensors")
    with pytest.raises(ModelError, match="is a LoRA"):
        with_vae(model, tmp_path / "lora.safetensors")
    with pytest.raises(RequestError, match="OpenVINO draws with the model's own"):
        LocalEngine(model, "cpu", runner="openvino", vae=file)
