import pytest
import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL

from models.autoencoder import PRESETS, Autoencoder, build_autoencoder
from models.errors import ConfigError
from models.normalizer import LatentNormalizer


@pytest.mark.parametrize("preset", PRESETS)
def test_latents_are_smaller_by_the_factor_and_pictures_come_back_at_their_size(preset):
    model = build_autoencoder(preset).eval()
    pixels = torch.rand(1, 3, 48, 32) * 2 - 1
    with torch.no_grad():
        latents = model.encode(pixels)
        output = model.decode(latents)
    f = model.downsampling_factor
    assert latents.shape == (1, model.latent_channels, 48 // f, 32 // f)
    assert output.shape == pixels.shape


def test_the_starters_factor_is_eight():
    assert build_autoencoder("starter").downsampling_factor == 8


def test_a_plain_three_channel_autoencoder_is_read_without_folding_pixels():
    model = Autoencoder(AutoencoderKL(block_out_channels=(8,), norm_num_groups=8))
    pixels = torch.rand(1, 3, 8, 8)
    assert model.patch_size == 1
    assert torch.equal(model.posterior(pixels).mode(), model.vae.encode(pixels).latent_dist.mode())


def test_other_input_channels_are_refused():
    with pytest.raises(ConfigError, match="5 input channels"):
        Autoencoder(AutoencoderKL(in_channels=5, block_out_channels=(8,), norm_num_groups=8))


def test_a_generator_makes_latents_a_sample_that_it_decides():
    model = build_autoencoder("tiny").eval()
    pixels = torch.rand(1, 3, 16, 16)
    first, again = (model.encode(pixels, torch.Generator().manual_seed(5)) for _ in range(2))
    assert torch.equal(first, again)
    assert not torch.equal(first, model.encode(pixels))


@pytest.mark.parametrize(
    "config",
    [
        {"scaling_factor": 0.18215},
        {"scaling_factor": 0.3611, "shift_factor": 0.1159},
        {"scaling_factor": 1.0, "latents_mean": [0.1, 0.2], "latents_std": [2.0, 3.0]},
    ],
)
def test_normalising_follows_each_convention_and_comes_back(config):
    normalizer = LatentNormalizer({"latent_channels": 2, **config})
    raw = torch.randn(3, 2, 4, 4)
    if "latents_mean" in config:
        expected = (raw - torch.tensor([0.1, 0.2]).view(1, 2, 1, 1)) / torch.tensor([2.0, 3.0]).view(
            1, 2, 1, 1
        )
    else:
        expected = (raw - config.get("shift_factor", 0.0)) * config["scaling_factor"]
    assert torch.allclose(normalizer.normalize(raw), expected, atol=1e-6)
    assert torch.allclose(normalizer.denormalize(normalizer.normalize(raw)), raw, atol=1e-6)
