from dataclasses import replace
from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKL
from safetensors import safe_open

from models.autoencoder import Autoencoder
from models.errors import ModelError
from models.folder import load_model
from models.single_file.write import write_single_file
from tests.models.single_file.tiny import KINDS_TO_LOAD, tiny_file, tiny_model
from tests.tiny import make_tiny_model


@pytest.mark.parametrize("name", KINDS_TO_LOAD)
def test_a_model_comes_back_from_its_file_as_it_was(tmp_path: Path, name: str) -> None:
    before, after = tiny_model(name), load_model(tiny_file(name, tmp_path / "a.safetensors"))
    for ours, theirs in (
        (before.denoiser.unet, after.denoiser.unet),
        (before.autoencoder.vae, after.autoencoder.vae),
        (before.text_encoder, after.text_encoder),
    ):
        expected, found = ours.state_dict(), theirs.state_dict()
        assert expected.keys() == found.keys()
        assert all(torch.equal(expected[key], found[key]) for key in expected)
    prompt = ["a photo of a cat"]
    assert torch.equal(before.text_encoder.encode(prompt).hidden, after.text_encoder.encode(prompt).hidden)


def test_names_are_those_that_other_programs_ask_for(tmp_path: Path) -> None:
    with safe_open(tiny_file("sd1", tmp_path / "a.safetensors"), "pt") as file:
        names = set(file.keys())
        assert {file.get_tensor(name).dtype for name in names} == {torch.float16}
        assert file.metadata()["modelspec.architecture"] == "stable-diffusion-v1"
    assert {  # CHECKPOINT_KEY_NAMES of diffusers and the model detection of AUTOMATIC1111 and ComfyUI
        "cond_stage_model.transformer.text_model.embeddings.position_embedding.weight",
        "model.diffusion_model.input_blocks.0.0.weight",
        "model.diffusion_model.output_blocks.7.0.skip_connection.weight",
        "first_stage_model.decoder.up.0.block.1.conv1.weight",
        "first_stage_model.encoder.mid.attn_1.q.weight",
    } <= names


def test_what_is_not_shaped_as_stable_diffusion_is_refused_and_not_written(tmp_path: Path) -> None:
    file, model = tmp_path / "a.safetensors", tiny_model("sd1")
    starter = load_model(make_tiny_model(tmp_path / "tiny"))
    for wrong, words in (
        (starter, "does not read words with CLIP"),
        (replace(model, denoiser=starter.denoiser), "another noise process"),
        (replace(model, autoencoder=starter.autoencoder), "its vae has other layers"),
    ):
        with pytest.raises(ModelError, match=words):
            write_single_file(wrong, file)
    small = AutoencoderKL(block_out_channels=(8,), norm_num_groups=4, latent_channels=4)
    with pytest.raises(ModelError, match="its vae has other layers"):
        write_single_file(replace(model, autoencoder=Autoencoder(small)), file)
    model.denoiser.alphas_cumprod = model.denoiser.alphas_cumprod**2
    with pytest.raises(ModelError, match="another noise process"):
        write_single_file(model, file)
    other = tiny_model("sd1")
    other.denoiser.unet.register_to_config(attention_head_dim=4)
    with pytest.raises(ModelError, match=r"attention_head_dim of its unet is 4, .* take \[8, 8, 8, 8\]"):
        write_single_file(other, file)
    assert not file.exists()
