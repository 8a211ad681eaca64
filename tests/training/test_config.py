import re

import pytest
import torch

from models.autoencoder import build_autoencoder
from models.errors import ConfigError
from training.config import (
    PRESETS,
    AutoencoderConfig,
    DiffusionConfig,
    DistillConfig,
    dump_config,
    load_config,
)


@pytest.mark.parametrize("preset", sorted(path.stem for path in PRESETS.glob("*.toml")))
def test_every_preset_loads_and_what_is_written_loads_again_the_same(preset, tmp_path):
    kinds = {"autoencoder": AutoencoderConfig, "diffusion": DiffusionConfig, "distill": DistillConfig}
    (kind,) = (kinds[word] for word in preset.split("-") if word in kinds)
    config = load_config(kind, preset, [])
    file = tmp_path / "config.toml"
    file.write_text(dump_config(config))
    assert load_config(kind, str(file), []) == config


def latents_of(preset):
    """f and latent channels of the autoencoder that a preset of stage 1 trains."""
    config = load_config(AutoencoderConfig, preset, []).autoencoder
    with torch.device("meta"):
        autoencoder = build_autoencoder(config.preset, config.regularizer)
    return autoencoder.downsampling_factor, autoencoder.latent_channels


@pytest.mark.parametrize(
    ("preset", "factor", "channels"), [("starter", 8, 8), ("one-gpu", 8, 4), ("many-gpu", 8, 4)]
)
def test_a_denoisers_preset_names_an_autoencoder_of_the_latents_that_it_tells_of(preset, factor, channels):
    file = PRESETS / f"{preset}-diffusion.toml"
    text, side = file.read_text(), load_config(DiffusionConfig, file.stem, []).data.resolution // factor
    named = re.search(r"[a-z-]+-autoencoder", text)
    assert latents_of(named[0] if named else f"{preset}-autoencoder") == (factor, channels)
    assert f"{side}x{side}" in text


def test_an_override_wins_over_the_preset_and_keeps_its_type():
    overrides = ["training.steps=7", "data.path=some/folder", "optimizer.betas=[0.5, 0.9]"]
    config = load_config(AutoencoderConfig, "tiny-autoencoder", overrides)
    assert config.training.steps == 7
    assert config.data.path == "some/folder"
    assert config.optimizer.betas == (0.5, 0.9)


@pytest.mark.parametrize("name", ["7", "2026-11-22", "true", "my run"])
def test_a_text_may_look_like_anything(name):
    assert load_config(AutoencoderConfig, "tiny-autoencoder", [f"training.name={name}"]).training.name == name


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("training.step=7", "did you mean training.steps"),
        ("trainin.steps=7", "did you mean training"),
        ("training.steps=many", "training.steps takes a value of type int"),
        ("training.steps=-1", "from 1 on"),
        ("optimizer.learning_rate=nan", "finite"),
        ("autoencoder.regularizer=none", "choose from kl"),
        ("optimizer.betas=[0.9]", "a list of 2"),
        ("steps=7", "section.key=value"),
        ("training=7", "section.key=value"),
        ("model.dropout=1.5", "unknown key model"),
        ("autoencoder.equivariance=2", "from 0 to 1"),
        ("training.batch_size=0", "from 1 on"),
    ],
)
def test_a_wrong_override_is_named_with_what_helps(override, words):
    with pytest.raises(ConfigError, match=words.replace("(", r"\(")):
        load_config(AutoencoderConfig, "tiny-autoencoder", [override])


def test_an_unknown_preset_lists_those_there_are():
    with pytest.raises(ConfigError, match="tiny-autoencoder"):
        load_config(AutoencoderConfig, "huge-autoencoder", [])


def test_a_preset_gives_way_to_the_folder_it_begins_from_and_a_wish_does_not():
    begun = load_config(DiffusionConfig, "starter-diffusion", ["init.model=some/folder"])
    assert (begun.model.preset, begun.model.autoencoder, begun.model.text_encoder) == ("", "", "")
    assert begun.data.resolution == load_config(DiffusionConfig, "starter-diffusion", []).data.resolution
    for overrides in (["init.model=x", "model.preset=tiny"], ["model.preset=tiny", "init.model=x"]):
        assert load_config(DiffusionConfig, "starter-diffusion", overrides).model.preset == "tiny"


def test_a_file_of_ones_own_is_taken_at_its_word(tmp_path):
    file = tmp_path / "mine.toml"
    file.write_text('[model]\npreset = "tiny"\n')
    assert load_config(DiffusionConfig, str(file), ["init.model=x"]).model.preset == "tiny"


@pytest.mark.parametrize("words", ["to_q,to_k", '["to_q", "to_k"]'])
def test_names_may_stand_in_a_list_or_with_commas(words, tmp_path):
    config = load_config(DiffusionConfig, "tiny-diffusion", [f"lora.targets={words}"])
    assert config.lora.targets == ("to_q", "to_k")
    file = tmp_path / "config.toml"
    file.write_text(dump_config(config))
    assert load_config(DiffusionConfig, str(file), []) == config
    with pytest.raises(ConfigError, match=r"lora\.targets takes a list of names, not 7"):
        load_config(DiffusionConfig, "tiny-diffusion", ["lora.targets=7"])
