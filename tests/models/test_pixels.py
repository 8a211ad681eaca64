import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from models.autoencoder import Autoencoder
from models.defaults import GenerationDefaults, pixels_a_latent
from models.denoiser import Denoiser
from models.folder import load_autoencoder, load_model, save_model, save_part
from models.pixels import Pixels
from models.unet import build_unet
from models.weights import read_json
from tests.tiny import TEXT_DIM, tiny_text_encoder


def pixels(mean=(0.5, 0.0, -0.25), std=(0.5, 0.25, 1.0)):
    vae = Pixels()
    vae.load_state_dict({"mean": torch.tensor(mean).view(3, 1, 1), "std": torch.tensor(std).view(3, 1, 1)})
    return Autoencoder(vae)


def test_latents_are_the_picture_with_its_colours_brought_to_mean_0_and_std_1():
    stage, picture = pixels(), torch.randn(2, 3, 16, 24)
    latents = stage.encode(picture)
    assert (stage.latent_channels, stage.downsampling_factor, stage.regularizer) == (3, 1, None)
    assert latents.shape == picture.shape
    for channel, (mean, std) in enumerate(zip((0.5, 0.0, -0.25), (0.5, 0.25, 1.0), strict=True)):
        torch.testing.assert_close(latents[:, channel], (picture[:, channel] - mean) / std)


@given(mean=st.floats(-1, 1), std=st.floats(0.01, 2), seed=st.integers(0, 2**31))
def test_there_and_back_is_the_same_picture(mean, std, seed):
    stage = pixels((mean,) * 3, (std,) * 3)
    picture = 2 * torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(seed)) - 1
    torch.testing.assert_close(stage.decode(stage.encode(picture)), picture, atol=1e-5, rtol=0)


def test_a_saved_first_stage_is_the_same(tmp_path):
    save_part(pixels().vae, tmp_path / "vae")
    again, picture = load_autoencoder(tmp_path), torch.randn(1, 3, 8, 8)
    assert isinstance(again.vae, Pixels)
    assert pixels_a_latent(read_json(tmp_path / "vae/config.json")) == 1
    assert torch.equal(again.encode(picture), pixels().encode(picture))


@pytest.mark.slow
def test_a_model_of_pixels_is_a_model_folder_like_others(tmp_path):
    save_model(
        tmp_path / "model",
        autoencoder=pixels(),
        denoiser=Denoiser(build_unet("tiny-pixels", 3, TEXT_DIM), "flow"),
        text_encoder=tiny_text_encoder(),
        defaults=GenerationDefaults(width=32, height=32),
    )
    assert load_model(tmp_path / "model").autoencoder.downsampling_factor == 1
