import pytest
import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL

from models.autoencoder import build_autoencoder
from models.errors import ConfigError
from models.folder import load_autoencoder, save_part
from tests.training.autoencoder_runs import run, settings
from training.autoencoder import AutoencoderStage
from training.config import AutoencoderConfig, load_config


def test_training_goes_on_from_a_model_of_the_same_kind_alone(picture_folder, tmp_path):
    for regularizer in ("kl", "vq"):
        save_part(build_autoencoder("tiny", regularizer).vae, tmp_path / regularizer / "vae")
    foreign = AutoencoderKL(block_out_channels=(8,), norm_num_groups=8, use_quant_conv=False)
    save_part(foreign, tmp_path / "foreign/vae")

    def stage(model, regularizer):
        words = [*settings(picture_folder), f"init.model={tmp_path / model}"]
        words.append(f"autoencoder.regularizer={regularizer}")
        return AutoencoderStage(load_config(AutoencoderConfig, "tiny-autoencoder", words))

    codes = load_autoencoder(tmp_path / "vq").vae.quantize.embedding.weight
    trained = stage("vq", "vq").trained
    assert torch.equal(trained.autoencoder.vae.quantize.embedding.weight, codes)
    assert all(p.requires_grad for p in trained.parameters())
    assert not trained.codebook_usage.idle_steps.any()  # codes that were trained are not thrown away
    for model, regularizer, words in (("kl", "vq", "kind kl"), ("foreign", "kl", "no quant_conv")):
        with pytest.raises(ConfigError, match=words):
            stage(model, regularizer)


@pytest.mark.slow
@pytest.mark.parametrize("regularizer", ["kl", "vq"])
def test_a_decoder_trained_alone_leaves_every_latent_as_it_was(picture_folder, tmp_path, regularizer):
    save_part(build_autoencoder("tiny", regularizer).vae, tmp_path / "begun/vae")
    before = load_autoencoder(tmp_path / "begun")
    values = {"autoencoder.regularizer": regularizer, "autoencoder.decoder_only": "true", "training.steps": 4}
    run(picture_folder, tmp_path / "run", **values, **{"init.model": tmp_path / "begun"})
    after = load_autoencoder(tmp_path / "run/model")
    pixels = torch.rand(1, 3, 32, 32) * 2 - 1
    latents = before.encode(pixels)
    assert torch.equal(after.encode(pixels), latents)
    assert not torch.equal(after.decode(latents), before.decode(latents))


def test_a_decoder_alone_needs_the_encoder_it_belongs_to(picture_folder):
    words = [*settings(picture_folder), "autoencoder.decoder_only=true"]
    with pytest.raises(ConfigError, match=r"set init\.model to the folder"):
        AutoencoderStage(load_config(AutoencoderConfig, "tiny-autoencoder", words))


def test_the_folder_of_an_earlier_run_decides_the_architecture(picture_folder, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run/config.toml").write_text("")
    save_part(build_autoencoder("starter").vae, tmp_path / "run/model/vae")
    words = [*settings(picture_folder), f"init.model={tmp_path / 'run'}"]
    stage = AutoencoderStage(load_config(AutoencoderConfig, "tiny-autoencoder", words))
    assert stage.config.init.model == str(tmp_path / "run/model")
    begun = load_autoencoder(tmp_path / "run/model").state_dict()
    trained = stage.trained.autoencoder.state_dict()
    assert trained.keys() == begun.keys()
    assert all(torch.equal(trained[name], begun[name]) for name in begun)
    other = load_config(AutoencoderConfig, "tiny-autoencoder", [*words, "autoencoder.preset=tiny"])
    with pytest.raises(ConfigError, match=r"autoencoder\.preset is 'tiny', but init\.model .*run/model has"):
        AutoencoderStage(other)
