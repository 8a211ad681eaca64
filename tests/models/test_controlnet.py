"""What a ControlNet's folder must be, and which model it is for."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.controlnet import CONTROLNETS_VARIABLE, controlnets_folder, read_controlnet
from models.errors import ModelError
from tests.controls import make_controlnet

# What the configs of published nets and UNets have in common with their kin.
SD1 = {
    "block_out_channels": [320, 640, 1280, 1280],
    "layers_per_block": 2,
    "cross_attention_dim": 768,
    "in_channels": 4,
}
SD2 = SD1 | {"cross_attention_dim": 1024}
SDXL = SD1 | {
    "block_out_channels": [320, 640, 1280],
    "cross_attention_dim": 2048,
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 256,
    "projection_class_embeddings_input_dim": 2816,
}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_controlnet(tmp_path_factory.mktemp("nets") / "lines")


def with_config(made: Path, folder: Path, **changed: Any) -> Path:
    """The same net whose config says something else."""
    config = json.loads((made / "config.json").read_text()) | changed
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "diffusion_pytorch_model.safetensors").hardlink_to(made / "diffusion_pytorch_model.safetensors")
    return folder


def test_a_net_has_the_name_of_its_folder_and_loads_as_it_was_saved(made: Path) -> None:
    from diffusers import ControlNetModel

    net = read_controlnet(made)
    assert net.name == "lines"
    theirs, ours = ControlNetModel.from_pretrained(made).state_dict(), net.load().state_dict()
    assert theirs.keys() == ours.keys()
    assert all((theirs[key] == ours[key]).all() for key in theirs)
    assert net.bytes_in_memory == sum(4 * tensor.numel() for tensor in ours.values())


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"_class_name": "ControlNetUnionModel"}, "the class 'ControlNetUnionModel' is no ControlNet"),
        ({"_class_name": "T2IAdapter"}, "'T2IAdapter' is no ControlNet that can be used"),
        ({"_class_name": None}, "the class None"),
        ({"global_pool_conditions": True}, "that look at a picture as a whole"),
        ({"class_embed_type": "timestep"}, "that are told a class"),
        ({"encoder_hid_dim": 8}, "read other states"),
        ({"addition_embed_type": "image"}, "addition_embed_type = 'image' is not supported"),
        ({"conditioning_channels": 4}, "pictures of 4 channels"),
        ({"conditioning_embedding_out_channels": "x" * 99}, "is no list of widths"),
    ],
)
def test_other_kinds_are_refused_by_name(
    made: Path, tmp_path: Path, changed: dict[str, Any], said: str
) -> None:
    with pytest.raises(ModelError, match=said):
        read_controlnet(with_config(made, tmp_path / "net", **changed))


def test_what_can_run_code_or_lacks_its_weights_is_refused(made: Path, tmp_path: Path) -> None:
    folder = with_config(made, tmp_path / "net")
    (folder / "controlnet.py").write_text("print('hello')")
    with pytest.raises(ModelError, match="is program code"):
        read_controlnet(folder)
    (folder / "controlnet.py").unlink()
    (folder / "diffusion_pytorch_model.safetensors").rename(folder / "diffusion_pytorch_model.bin")
    with pytest.raises(ModelError, match=r"can run code when read; get its \.safetensors"):
        read_controlnet(folder)


def test_a_config_that_its_weights_do_not_have_is_said_when_it_is_loaded(made: Path, tmp_path: Path) -> None:
    net = read_controlnet(with_config(made, tmp_path / "net", layers_per_block=2))
    with pytest.raises(ModelError, match="its config does not fit"):
        net.load()


@given(net=st.sampled_from([SD1, SD2, SDXL]), model=st.sampled_from([SD1, SD2, SDXL]))
def test_a_net_fits_the_models_of_its_kind_and_no_others(
    tmp_path_factory: pytest.TempPathFactory, made: Path, net: dict[str, Any], model: dict[str, Any]
) -> None:
    four = {"conditioning_embedding_out_channels": [16, 32, 96, 256]}
    folder = with_config(made, tmp_path_factory.mktemp("fit") / "net", **(net | four))
    misfit = read_controlnet(folder).misfit(model | {"out_channels": 4}, 8)
    assert (misfit is None) == (net == model)
    if net != model:
        named = "block_out_channels" if SDXL in (net, model) else "cross_attention_dim"
        assert str(misfit).startswith(f"its {named} is ")


def test_other_latents_and_our_own_models_are_said(made: Path) -> None:
    net = read_controlnet(made)
    unet = {"block_out_channels": (16, 32), "layers_per_block": 1, "cross_attention_dim": 16}
    assert net.misfit(unet, 4) is None
    assert net.misfit(unet | {"in_channels": 9}, 4) is None  # that of an inpainting model
    assert net.misfit(unet, 8) == "it makes pictures 4 times smaller, the model 8 times"
    assert "latents of 4 channels, the model's have 16" in str(net.misfit(unet | {"out_channels": 16}, 4))
    assert "Latent Studio's own training" in str(
        net.misfit(unet | {"class_embed_type": "simple_projection"}, 4)
    )


def test_where_they_lie(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv(CONTROLNETS_VARIABLE, raising=False)
    assert controlnets_folder(tmp_path) == tmp_path / "controlnets"
    monkeypatch.setenv(CONTROLNETS_VARIABLE, str(tmp_path / "else"))
    assert controlnets_folder(tmp_path / "out") == tmp_path / "else"
