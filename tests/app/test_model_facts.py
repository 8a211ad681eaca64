"""What the page says of a model folder, against the model itself."""

import json
import shutil
from pathlib import Path

import pytest

from app.model_facts import read_facts
from models.autoencoder import build_autoencoder
from models.defaults import INSTANT, ImageCondition
from models.folder import load_condition_encoder, load_model, save_part
from models.text_pair import TextEncoderPair
from tests.stable_diffusion import make_model
from tests.tiny import make_tiny_model

STARTER = Path(__file__).parents[2] / "checkpoints" / "starter"


def count(module) -> int:
    return sum(tensor.numel() for tensor in module.state_dict().values())


def test_parameters_are_those_of_the_loaded_model(taught_model_folder: Path) -> None:
    facts, model = read_facts(taught_model_folder), load_model(taught_model_folder)
    assert model.instant is not None
    assert facts.parameters == {
        "unet": count(model.denoiser.unet),
        INSTANT: count(model.instant.denoiser.unet),
        "vae": count(model.autoencoder.vae),
        "text_encoder": count(model.text_encoder.encoder),
    }
    assert (facts.factor, facts.channels) == (
        model.autoencoder.downsampling_factor, model.autoencoder.latent_channels,
    )  # fmt: skip
    assert (facts.prediction, facts.text_encoder, facts.codes) == ("flow_prediction", "bert", 0)
    files = [file for file in taught_model_folder.rglob("*") if file.is_file()]
    assert facts.size_bytes == sum(file.stat().st_size for file in files)


def test_classes_and_conditions_are_said(tmp_path: Path) -> None:
    classes = read_facts(make_tiny_model(tmp_path / "classes", "epsilon", classes=["circle", "square"]))
    assert (classes.classes, classes.text_encoder, classes.prediction) == (2, "", "epsilon")
    paints = make_tiny_model(tmp_path / "paints", image_condition=ImageCondition("inpaint"))
    assert read_facts(paints).shown == "inpaint"


@pytest.mark.slow
def test_sdxl_and_its_second_text_encoder_are_said(tmp_path: Path) -> None:
    folder = make_model("sdxl-inpaint", tmp_path / "sdxl")
    facts, encoder = read_facts(folder), load_condition_encoder(folder)
    assert isinstance(encoder, TextEncoderPair)
    assert facts.parameters["text_encoder_2"] == count(encoder.second)
    assert (facts.family, facts.text_encoder, facts.shown) == ("SDXL", "clip_text_model", "inpaint")


@pytest.mark.parametrize(("width", "family"), [(768, "Stable Diffusion 1"), (1024, "Stable Diffusion 2")])
def test_the_family_is_that_of_what_the_denoiser_reads(
    tiny_model_folder: Path, tmp_path: Path, width: int, family: str
) -> None:
    folder = shutil.copytree(tiny_model_folder, tmp_path / "model")
    assert read_facts(folder).family == ""
    file = folder / "unet" / "config.json"
    config = json.loads(file.read_text()) | {"cross_attention_dim": width, "class_embed_type": None}
    file.write_text(json.dumps(config))
    assert read_facts(folder).family == family


def test_a_codebook_is_counted(tiny_model_folder: Path, tmp_path: Path) -> None:
    folder, autoencoder = shutil.copytree(tiny_model_folder, tmp_path / "vq"), build_autoencoder("tiny", "vq")
    save_part(autoencoder.vae, folder / "vae")
    facts = read_facts(folder)
    assert (facts.autoencoder, facts.codes) == ("VQModel", autoencoder.vae.quantize.n_e)
    assert facts.factor == autoencoder.downsampling_factor
    assert facts.parameters["vae"] == count(autoencoder.vae)


def test_the_starters_card_says_where_it_comes_from() -> None:
    facts = read_facts(STARTER)
    assert facts.licence == "apache-2.0"
    assert facts.data.startswith("the pictures of python launch.py data starter")
    assert "Fluent Emoji" in facts.data


@pytest.mark.parametrize(
    ("card", "data", "licence"),
    [
        (
            "---\nlicense: mit\ndatasets:\n- laion/art\n- me/mine\n---\n# A model\n",
            "laion/art, me/mine",
            "mit",
        ),
        ("---\nlicense: 'cc0-1.0'\ndatasets: [a/b, 'c/d']\n---\n", "a/b, c/d", "cc0-1.0"),
        ("# A model\n\nTrained on cats,\nand dogs.\n\nMore.\n", "cats, and dogs.", ""),
        ("license: stolen\n", "", ""),
        ("", "", ""),
    ],
)
def test_cards_as_hubs_have_them_are_read(
    tiny_model_folder: Path, tmp_path: Path, card: str, data: str, licence: str
) -> None:
    folder = shutil.copytree(tiny_model_folder, tmp_path / "mine")
    (folder / "README.md").write_text(card)
    facts = read_facts(folder)
    assert (facts.data, facts.licence) == (data, licence)


def test_a_run_says_which_pictures_it_learns_from(tiny_model_folder: Path, tmp_path: Path) -> None:
    run = tmp_path / "emoji"
    shutil.copytree(tiny_model_folder, run / "model")
    (run / "config.toml").write_text(f"[data]\npath = {json.dumps('/pictures/of <mine>')}\n")
    assert read_facts(run / "model").data == "/pictures/of <mine>"
