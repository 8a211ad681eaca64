import json
import pickle
import struct
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers.loaders.single_file_utils import CHECKPOINT_KEY_NAMES
from safetensors.torch import load_file, save_file

from models.defaults import read_defaults
from models.errors import ModelError
from models.folder import load_model
from models.folder_check import check_model_folder, find_models, folder_state, model_name
from models.single_file.checkpoint import read_checkpoint, sidecar
from models.single_file.families import SD1, SD2, SDXL
from models.weights import read_header
from tests.models.single_file.tiny import KINDS, tiny_file

# The names by which diffusers knows what is opened here, or what is no model.
OPENED = {
    *("v1", "v2", "xl_base", "inpainting", "instruct-pix2pix", "upscale"),
    *("clip", "clip_sdxl", "open_clip", "open_clip_sdxl", "open_clip_sdxl_refiner"),
}
OTHERS = {
    kind: keys if isinstance(keys, list) else [keys]
    for kind, keys in CHECKPOINT_KEY_NAMES.items()
    if kind not in OPENED
}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    home = tmp_path_factory.mktemp("files")
    return {name: tiny_file(name, home / f"{name.replace(' ', '-')}.safetensors") for name in KINDS}


@pytest.fixture
def sd1(files: dict[str, Path], tmp_path: Path) -> Path:
    """A file that may be changed."""
    copy = tmp_path / "mine.safetensors"
    copy.write_bytes(files["sd1"].read_bytes())
    return copy


def change(file: Path, *, drop: str = "\0", **add: Any) -> None:
    weights = {name: tensor for name, tensor in load_file(file).items() if not name.startswith(drop)}
    save_file({**weights, **add}, file)


@pytest.mark.parametrize("name", KINDS)
def test_a_file_is_known_by_its_header(files: dict[str, Path], name: str) -> None:
    found, kind = read_checkpoint(files[name]), KINDS[name]
    assert found.family is {"sd1": SD1, "sd2": SD2}.get(name[:3], SDXL)
    assert found.scheduler["prediction_type"] == kind.prediction
    assert found.inpaint == (kind.channels == 9)
    header = read_header(files[name])
    named = {stored for part in found.parts.values() for stored in part.names}
    assert named == set(header) - {"v_pred"}
    for key, value in kind.unet.items():
        wanted = [8] * 4 if (key, value) == ("attention_head_dim", 8) else value
        assert found.parts["unet"].config[key] == (list(wanted) if isinstance(wanted, tuple) else wanted)


@pytest.mark.parametrize("kind", OTHERS)
def test_files_of_other_kinds_are_refused_by_name(tmp_path: Path, kind: str) -> None:
    for number, key in enumerate(OTHERS[kind]):
        file = tmp_path / f"{number}.safetensors"
        save_file({key: torch.zeros(2, 2)}, file)
        with pytest.raises(ModelError, match=r"SDXL are opened$") as refused:
            check_model_folder(file)
        assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("key", "words"),
    [
        ("model.diffusion_model.double_blocks.0.img_attn.norm.key_norm.scale", "a model of FLUX;"),
        ("model.diffusion_model.joint_blocks.0.context_block.adaLN_modulation.1.bias", "Stable Diffusion 3"),
        ("conditioner.embedders.0.model.transformer.resblocks.9.mlp.c_proj.bias", "refiner"),
        ("clip_txt_mapper.weight", "Stable Cascade"),
        ("lora_unet_mid_block_attentions_0_proj_in.lora_up.weight", "a LoRA"),
        ("unet.down_blocks.0.attentions.0.proj_in.lora_A.weight", "a LoRA"),
        ("control_model.time_embed.0.weight", "a ControlNet"),
        ("emb_params", "a textual inversion"),
        ("encoder.conv_in.weight", "an autoencoder alone"),
        ("model.diffusion_model.input_blocks.0.0.weight", "no model that is known"),
    ],
)
def test_it_is_said_what_a_file_is(tmp_path: Path, key: str, words: str) -> None:
    save_file({key: torch.zeros(2, 2)}, tmp_path / "a.safetensors")
    with pytest.raises(ModelError, match=words):
        check_model_folder(tmp_path / "a.safetensors")


def test_averages_and_numbers_that_nobody_reads_are_left_alone(sd1: Path) -> None:
    ids = "cond_stage_model.transformer.text_model.embeddings.position_ids"
    change(sd1, **{
        "model_ema.diffusion_modelinput_blocks00weight": torch.zeros(4),
        "model_ema.num_updates": torch.tensor(7, dtype=torch.int32),
        ids: torch.arange(77)[None].half(),  # as merging tools leave it
    })  # fmt: skip
    names = [name for part in read_checkpoint(sd1).parts.values() for name in part.names]
    assert ids not in names
    assert not any(name.startswith("model_ema") for name in names)


@pytest.mark.parametrize(
    ("drop", "words"),
    [
        ("model.diffusion_model.input_blocks.1.", r"number 1 of input_blocks"),
        ("model.diffusion_model.input_blocks.0.0.weight", r"'conv_in\.weight' is missing"),
        ("first_stage_model.", r"no whole Stable Diffusion"),
        ("cond_stage_model.transformer.text_model.encoder.layers.0.", "fc1.weight' is missing"),
        ("cond_stage_model.", "no model that is known"),
    ],
)
def test_what_is_missing_is_said(sd1: Path, drop: str, words: str) -> None:
    change(sd1, drop=drop)
    with pytest.raises(ModelError, match=words):
        check_model_folder(sd1)


def test_tensors_under_two_names_are_refused(sd1: Path) -> None:
    change(sd1, **{"cond_stage_model.transformer.final_layer_norm.bias": torch.zeros(32)})
    with pytest.raises(ModelError, match="twice"):
        check_model_folder(sd1)


@pytest.mark.parametrize("channels", [5, 7, 8])
def test_denoisers_that_are_shown_other_things_are_refused(sd1: Path, channels: int) -> None:
    change(sd1, **{"model.diffusion_model.input_blocks.0.0.weight": torch.zeros(32, channels, 3, 3)})
    with pytest.raises(ModelError, match=f"takes {channels} channels and gives 4"):
        check_model_folder(sd1)


def test_parts_that_do_not_belong_together_are_refused(sd1: Path) -> None:
    reads = "model.diffusion_model.middle_block.1.transformer_blocks.0.attn2.to_k.weight"
    change(sd1, **{reads: torch.zeros(64, 48)})
    with pytest.raises(ModelError, match="text of 48 numbers a token, its text encoder gives 32"):
        check_model_folder(sd1)


def test_numbers_that_are_none_and_names_that_come_twice_are_refused(sd1: Path) -> None:
    length = struct.unpack("<Q", sd1.read_bytes()[:8])[0]
    whole = sd1.read_bytes()
    name = b'"model.diffusion_model.out.2.bias"'
    twice = whole[8 : 8 + length].replace(name, b'"model.diffusion_model.out.0.bias"')
    sd1.write_bytes(whole[:8] + twice + whole[8 + length :])
    with pytest.raises(ModelError, match="occurs twice"):
        check_model_folder(sd1)
    sd1.write_bytes(whole)
    change(sd1, **{"model.diffusion_model.out.2.bias": torch.full((4,), float("nan"))})
    with pytest.raises(ModelError, match=r"out\.2\.bias' holds NaN"):
        load_model(sd1)


def test_a_file_that_was_cut_off_is_refused(sd1: Path) -> None:
    sd1.write_bytes(sd1.read_bytes()[:-1])
    with pytest.raises(ModelError, match="broken download"):
        check_model_folder(sd1)


@pytest.mark.parametrize("name", ["a.ckpt", "a.pt", "a.pth", "a.bin", "a.safetensors", "a.txt"])
def test_pickles_are_refused_by_name_and_by_content(tmp_path: Path, name: str) -> None:
    with pytest.raises(ModelError):
        check_model_folder(tmp_path / name)
    for number, content in enumerate([pickle.dumps({"a": 1}), b"PK\3\4rest"]):
        file = tmp_path / f"{number}{name}"
        file.write_bytes(content)
        with pytest.raises(
            ModelError, match=r"can run code when read; .*safetensors.torch.save_file"
        ) as refused:
            check_model_folder(file)
        assert "\n" not in str(refused.value)


def test_safetensors_under_the_name_of_a_pickle_and_other_files_are_refused_too(
    sd1: Path, tmp_path: Path
) -> None:
    for name, words in (("a.ckpt", "a pickle"), ("a.bin", "a pickle"), ("a.zip", "ends in")):
        (tmp_path / name).write_bytes(sd1.read_bytes()[:2000])
        with pytest.raises(ModelError, match=words):
            check_model_folder(tmp_path / name)
    (tmp_path / "a.gguf").write_bytes(b"GGUF" + struct.pack("<I", 3))
    with pytest.raises(ModelError, match="is GGUF"):
        check_model_folder(tmp_path / "a.gguf")


def test_what_is_predicted_can_be_said_beside_the_file(files: dict[str, Path], tmp_path: Path) -> None:
    file = tmp_path / "mine.safetensors"
    file.write_bytes(files["sd2"].read_bytes())

    def prediction() -> str:
        return str(read_checkpoint(file).scheduler["prediction_type"])

    assert prediction() == "v_prediction"
    change(file)  # no metadata: as the files of the first days
    assert prediction() == "v_prediction"
    assert (read_defaults(file).width, read_defaults(file).guidance_scale) == (768, 7.0)
    file.with_suffix(".yaml").write_text("model:\n  params:\n    linear_start: 0.00085\n")
    assert prediction() == "epsilon"
    file.with_suffix(".yaml").write_text('    parameterization: "v"\n')
    assert prediction() == "v_prediction"
    before = folder_state(file)
    assert len(before) == 2
    sidecar(file).write_text(json.dumps({"prediction_type": "epsilon", "steps": 9, "sampler": "Euler a"}))
    assert folder_state(file) != before
    assert prediction() == "epsilon"
    assert (read_defaults(file).width, read_defaults(file).steps, read_defaults(file).sampler) == (
        512,
        9,
        "Euler a",
    )
    for wrong, words in (({"prediction_type": "sample"}, "neither epsilon"), ({"colour": 1}, "unknown key")):
        sidecar(file).write_text(json.dumps(wrong))
        with pytest.raises(ModelError, match=words):
            check_model_folder(file)


def test_metadata_says_it_too(files: dict[str, Path], tmp_path: Path) -> None:
    weights = load_file(files["sd2"])
    for said, found in (("epsilon", "epsilon"), ("v", "v_prediction"), ("nonsense", "v_prediction")):
        file = tmp_path / f"{said}.safetensors"
        save_file(weights, file, metadata={"modelspec.prediction_type": said})
        assert read_checkpoint(file).scheduler["prediction_type"] == found


def test_single_files_are_found_where_they_are_no_part_of_something(sd1: Path, tmp_path: Path) -> None:
    (tmp_path / "folder/unet").mkdir(parents=True)
    (tmp_path / "folder/model_index.json").touch()
    (tmp_path / "features").mkdir()
    (tmp_path / "features/config.json").touch()
    for name in ("folder/unet/a.safetensors", "features/a.safetensors", "old.ckpt", "notes.txt"):
        (tmp_path / name).touch()
    assert find_models(tmp_path) == [tmp_path / "folder", sd1, tmp_path / "old.ckpt"]
    assert model_name(sd1) == "mine"
