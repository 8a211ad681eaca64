import contextlib
import json
import pickle
import shutil
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from models.errors import ModelError
from models.folder import load_model
from models.folder_check import check_model_folder, find_models

UNET = Path("unet", "diffusion_pytorch_model.safetensors")
VAE = Path("vae", "diffusion_pytorch_model.safetensors")


@pytest.fixture
def folder(tiny_model_folder: Path, tmp_path: Path) -> Path:
    """A tiny model that a test may change."""
    return shutil.copytree(tiny_model_folder, tmp_path / "model-of-mine")


def edit(file: Path, **changes: Any) -> None:
    """Change entries of a JSON file; ... removes one."""
    values = {**json.loads(file.read_text()), **changes}
    file.write_text(json.dumps({key: value for key, value in values.items() if value is not ...}))


def edit_weights(file: Path, change: Callable[[dict[str, torch.Tensor]], None]) -> None:
    weights = load_file(file)
    change(weights)
    save_file(weights, file)


def refusal(folder: Path) -> str:
    with pytest.raises(ModelError) as caught:
        load_model(folder)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_models_are_found_three_levels_deep_in_order(tiny_model_folder: Path, tmp_path: Path) -> None:
    places = ["b/model", "a", "c/d/e", "a/inside-a-model", ".hidden/x", "f/g/h/too-deep"]
    for place in places:
        (tmp_path / place).mkdir(parents=True, exist_ok=True)
        (tmp_path / place / "model_index.json").touch()
    assert find_models(tmp_path) == [tmp_path / place for place in ("a", "b/model", "c/d/e")]
    assert find_models(tmp_path / "nowhere") == []
    assert find_models(tiny_model_folder) == [tiny_model_folder]


def test_checking_a_folder_imports_no_torch(tiny_model_folder: Path) -> None:
    program = (
        "import sys\nfrom models.defaults import read_defaults\n"
        "from models.folder_check import check_model_folder, find_models\n"
        f"check_model_folder({str(tiny_model_folder)!r}); read_defaults({str(tiny_model_folder)!r})\n"
        "assert not {'torch', 'numpy', 'transformers', 'diffusers', 'safetensors'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True, cwd=Path(__file__).parents[2])


def test_every_file_of_a_model_is_needed(tiny_model_folder: Path, tmp_path: Path) -> None:
    check_model_folder(tiny_model_folder)
    needed = [f.relative_to(tiny_model_folder) for f in tiny_model_folder.rglob("*") if f.is_file()]
    optional = {"README.md", "generation_defaults.json", "preview.json", "tokenizer_config.json"}
    for number, file in enumerate(file for file in needed if file.name not in optional):
        copy = shutil.copytree(tiny_model_folder, tmp_path / str(number))
        (copy / file).unlink()
        assert file.parts[0] in refusal(copy)


@pytest.mark.parametrize("path", ["nowhere", "", "model_index.json"])
def test_what_is_no_model_folder_is_refused(folder: Path, path: str) -> None:
    target = folder / "unet" if path == "" else folder / path
    assert "model folder" in refusal(target)


INDEX = "model_index.json"


@pytest.mark.parametrize(
    ("file", "changes", "words"),
    [
        (
            INDEX,
            {"_class_name": "StableDiffusionUpscalePipeline"},
            "'StableDiffusionUpscalePipeline' are not supported",
        ),
        (INDEX, {"_class_name": "StableDiffusion3Pipeline"}, "a model of Stable Diffusion 3"),
        (INDEX, {"_class_name": "FluxPipeline"}, "a model of FLUX, which is not supported"),
        (INDEX, {"_class_name": "StableDiffusionXLPipeline"}, "does not name the part 'text_encoder_2'"),
        (INDEX, {"requires_aesthetics_score": True}, "is an SDXL refiner"),
        (INDEX, {"text_encoder": [None, None]}, "is an SDXL refiner"),
        (INDEX, {"_class_name": ["pipeline", "Mine"]}, "are not supported"),
        (
            INDEX,
            {"unet": ["my_unet", "UNet2DConditionModel"]},
            "my_unet.UNet2DConditionModel, which is not allowed",
        ),
        (INDEX, {"text_encoder": ["transformers", "AutoModel"]}, "AutoModel, which is not allowed"),
        (INDEX, {"scheduler": ["os", "system"]}, "os.system, which is not allowed"),
        (INDEX, {"tokenizer": "BertTokenizer"}, "'tokenizer' is not a part that is known"),
        (INDEX, {"helper": ["diffusers", "AutoencoderKL"]}, "'helper' asks for"),
        (INDEX, {"vae": ...}, "does not name the part 'vae'"),
        (
            "unet/config.json",
            {"_class_name": "UNet3DConditionModel"},
            "'UNet3DConditionModel' is not allowed",
        ),
        ("unet/config.json", {"trust_remote_code": True}, "'trust_remote_code', which asks for code"),
        ("vae/config.json", {"auto_map": {}}, "'auto_map', which asks for code"),
        ("unet/config.json", {"in_channels": 9}, "in_channels = 9, the autoencoder 4 latent channels"),
        ("unet/config.json", {"cross_attention_dim": 768}, "reads text of 768 numbers a token"),
        (
            "unet/config.json",
            {"addition_embed_type": "text_time"},
            "addition_embed_type = 'text_time' is not",
        ),
        ("unet/config.json", {"class_embed_type": "timestep"}, "class_embed_type = 'timestep' is not"),
        ("unet/config.json", {"layers_per_block": 10**9}, "more than 256"),
        ("unet/config.json", {"layers_per_block": 2}, "lacks"),
        ("unet/config.json", {"block_out_channels": [32, 10**9]}, "cannot be built"),
        ("unet/config.json", {"down_block_types": ["os.system", "DownBlock2D"]}, "cannot be built"),
        ("vae/config.json", {"_class_name": "AutoencoderTiny"}, "use AutoencoderKL or VQModel"),
        ("vae/config.json", {"_class_name": ["VQModel"]}, "is not allowed here"),
        ("vae/config.json", {"_class_name": "VQModel"}, "lacks|unknown key"),
        ("vae/config.json", {"latent_channels": "4"}, "latent_channels = '4' is no count"),
        ("vae/config.json", {"in_channels": 5, "out_channels": 5}, "config asks for|input channels"),
        ("scheduler/scheduler_config.json", {"prediction_type": "sample"}, "predicts 'sample'"),
        ("generation_defaults.json", {"width": 0}, "width = 0 is no whole number"),
        ("generation_defaults.json", {"steps": True}, "steps = True is no whole number"),
        ("generation_defaults.json", {"guidance_scale": "7"}, "guidance_scale = '7' is wrong"),
        ("generation_defaults.json", {"sampler": 3}, "sampler = 3 is no name"),
        ("generation_defaults.json", {"cfg": 3}, "unknown key 'cfg'"),
        ("generation_defaults.json", {"height": ...}, "lacks width or height"),
        ("preview.json", {"weight": [[1, 2, 3]]}, r"must hold weight \(4 x 3\), bias \(3\)"),
        ("preview.json", {"bias": [1, 2, "x"]}, "must hold weight"),
    ],
)
def test_a_config_that_asks_for_more_than_we_list_is_refused(
    folder: Path, file: str, changes: dict[str, Any], words: str
) -> None:
    edit(folder / file, **changes)
    with pytest.raises(ModelError, match=words):
        load_model(folder)


@pytest.mark.parametrize(
    ("file", "changes", "words"),
    [
        ("generation_defaults.json", None, "unet_instant/generation_defaults.json cannot be read"),
        ("generation_defaults.json", {"steps": 0}, "steps = 0 is no whole number"),
        ("generation_defaults.json", {"instant": {}}, "unknown key 'instant'"),
        ("config.json", None, "unet_instant/config.json cannot be read"),
        ("config.json", {"_class_name": "UNet3DConditionModel"}, "'UNet3DConditionModel' is not allowed"),
        ("config.json", {"out_channels": 3}, "unet_instant: out_channels = 3, the autoencoder 4 latent"),
        ("config.json", {"layers_per_block": 2}, "lacks"),
        (UNET.name, None, "unet_instant"),
    ],
)
def test_a_broken_student_is_refused_in_one_sentence(
    taught_model_folder: Path, tmp_path: Path, file: str, changes: dict[str, Any] | None, words: str
) -> None:
    folder = shutil.copytree(taught_model_folder, tmp_path / "taught")
    if changes is None:
        (folder / "unet_instant" / file).unlink()
    else:
        edit(folder / "unet_instant" / file, **changes)
    assert words in refusal(folder)


class Bomb:
    """Leaves a mark when unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return (Path.touch, (self.mark,))


@pytest.mark.parametrize("name", [UNET.name, "diffusion_pytorch_model.bin"])
def test_a_pickle_is_never_read_whatever_its_name(folder: Path, name: str) -> None:
    mark = folder.parent / "mark"
    (folder / UNET).unlink()
    (folder / "unet" / name).write_bytes(pickle.dumps(Bomb(mark)))
    assert "safetensors" in refusal(folder)
    assert not mark.exists()


@pytest.mark.parametrize("name", ["unet/unet.py", "pipeline.py", "tokenizer/x/y.PY", "vae/fast.so"])
def test_program_code_in_a_folder_is_refused(folder: Path, name: str) -> None:
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_text("raise SystemExit")
    assert "is program code" in refusal(folder)


def test_a_link_out_of_the_folder_is_refused_and_one_inside_is_not(folder: Path) -> None:
    elsewhere = folder.parent / "elsewhere.safetensors"
    (folder / UNET).rename(elsewhere)
    (folder / UNET).symlink_to(elsewhere)
    assert "points out of the model folder" in refusal(folder)
    (folder / UNET).unlink()
    elsewhere.rename(folder / "shared.safetensors")
    (folder / UNET).symlink_to(folder / "shared.safetensors")
    load_model(folder)


def test_a_linked_directory_out_of_the_folder_is_refused(folder: Path) -> None:
    shutil.move(folder / "vae", folder.parent / "vae")
    (folder / "vae").symlink_to(folder.parent / "vae")
    assert "points out of the model folder" in refusal(folder)


def test_a_truncated_file_is_refused_before_anything_is_loaded(folder: Path) -> None:
    content = (folder / UNET).read_bytes()
    (folder / UNET).write_bytes(content[:-100])
    with pytest.raises(ModelError, match="after a broken download"):
        check_model_folder(folder)


def test_a_header_with_a_key_twice_is_refused(folder: Path) -> None:
    content = (folder / UNET).read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    header = content[8 : 8 + length].decode().rstrip()
    name, entry = next((n, e) for n, e in json.loads(header).items() if n != "__metadata__")
    doubled = (header[:-1] + f", {json.dumps(name)}: {json.dumps(entry)}}}").encode()
    (folder / UNET).write_bytes(struct.pack("<Q", len(doubled)) + doubled + content[8 + length :])
    assert "occurs twice" in refusal(folder)


def test_a_nan_among_the_weights_is_refused(folder: Path) -> None:
    def poison(weights: dict[str, torch.Tensor]) -> None:
        weights["conv_in.weight"][0, 0, 0, 0] = torch.nan

    edit_weights(folder / UNET, poison)
    assert "'conv_in.weight' holds NaN" in refusal(folder)


def test_missing_additional_and_misshapen_tensors_are_named(folder: Path) -> None:
    whole = load_file(folder / VAE)
    edit_weights(folder / VAE, lambda w: w.__delitem__("decoder.conv_out.bias"))
    assert "lacks 1 tensors, first 'decoder.conv_out.bias'" in refusal(folder)
    save_file({**whole, "extra": torch.ones(1)}, folder / VAE)
    assert "1 tensors more, first 'extra'" in refusal(folder)
    save_file({**whole, "decoder.conv_out.bias": torch.ones(13)}, folder / VAE)
    assert "'decoder.conv_out.bias' has shape (13,), its config asks for (12,)" in refusal(folder)


def test_parts_of_two_models_that_do_not_fit_are_refused(folder: Path) -> None:
    file = folder / "text_encoder" / "config.json"
    edit(file, hidden_size=48)
    assert "the text encoder gives 48; they do not belong together" in refusal(folder)


JUNK = st.one_of(
    st.none(), st.booleans(), st.integers(-3, 300), st.floats(allow_nan=False), st.text(max_size=5),
    st.lists(st.integers(0, 9), max_size=3), st.just({}), st.just([[]]),
)  # fmt: skip


@pytest.mark.slow
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_junk_anywhere_in_a_config_is_an_answer_or_a_model_error(
    tiny_model_folder: Path, tmp_path: Path, data: st.DataObject
) -> None:
    copy = shutil.copytree(tiny_model_folder, tmp_path / "junk", dirs_exist_ok=True)
    configs = sorted(f.relative_to(copy) for f in copy.rglob("*.json") if f.name != "tokenizer.json")
    file = copy / data.draw(st.sampled_from(configs))
    key = data.draw(st.sampled_from(sorted(json.loads(file.read_text()))))
    edit(file, **{key: data.draw(JUNK)})
    with contextlib.suppress(ModelError):
        load_model(copy)
