import json
import shutil
from collections.abc import Iterator
from itertools import cycle
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import UNet2DConditionModel
from safetensors.torch import load_file, save_file

import models.folder
from models.defaults import INSTANT, GenerationDefaults, LatentPreview, read_defaults
from models.errors import ModelError
from models.folder import load_model, save_model, save_part
from models.weights import LORA_FILE
from tests.tiny import make_tiny_model, tiny_text_encoder

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


def test_a_model_comes_back_as_it_was_saved(folder: Path, tmp_path: Path) -> None:
    model = load_model(folder)
    save_model(
        tmp_path / "copy",
        autoencoder=model.autoencoder,
        denoiser=model.denoiser,
        text_encoder=model.text_encoder,
        defaults=model.defaults,
        preview=model.preview,
    )
    again = load_model(tmp_path / "copy")
    assert again.model_id == model.model_id
    assert (again.defaults, again.preview) == (model.defaults, model.preview)
    assert (model.name, again.name) == ("model-of-mine", "copy")
    for old, new in ((model.autoencoder, again.autoencoder), (model.denoiser.unet, again.denoiser.unet)):
        for name, tensor in old.state_dict().items():
            assert torch.equal(tensor, new.state_dict()[name])


def test_a_loaded_model_is_frozen_in_evaluation_mode_and_float32(folder: Path) -> None:
    model = load_model(folder)
    for module in (model.autoencoder, model.denoiser.unet, model.text_encoder):
        assert not module.training
        assert not any(p.requires_grad for p in module.parameters())
        assert {p.dtype for p in module.parameters()} == {torch.float32}


def replacing_while_read(folder: Path, others: Iterator[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a training replace the UNet each time the UNet is about to be read."""
    read = models.folder.load_part

    def load_part(part: Any, part_folder: Path) -> Any:
        if part_folder == folder / "unet" and (other := next(others, None)):
            shutil.copy(other / UNET, folder / "new")
            (folder / "new").replace(folder / UNET)
        return read(part, part_folder)

    monkeypatch.setattr(models.folder, "load_part", load_part)


def test_a_model_that_is_replaced_while_it_is_read_is_all_of_one_moment(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = make_tiny_model(tmp_path / "other", seed=1)
    replacing_while_read(folder, iter([other]), monkeypatch)
    old = load_model(tmp_path / "other").denoiser.unet
    model = load_model(folder)
    monkeypatch.undo()
    assert model.model_id == load_model(folder).model_id
    assert torch.equal(model.denoiser.unet.state_dict()["conv_in.weight"], old.state_dict()["conv_in.weight"])


def test_a_model_that_is_replaced_all_the_time_is_not_waited_for(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = make_tiny_model(tmp_path / "other", seed=1)
    replacing_while_read(folder, cycle([other]), monkeypatch)
    with pytest.raises(ModelError, match="try again in a moment"):
        load_model(folder)


def test_weights_lie_in_half_precision_and_everyone_may_read_the_folder(folder: Path) -> None:
    for file in folder.rglob("*.safetensors"):
        assert {tensor.dtype for tensor in load_file(file).values()} == {torch.float16}
    assert {oct(f.stat().st_mode & 0o777) for f in folder.rglob("*") if f.is_file()} == {"0o644"}


def test_the_classes_of_diffusers_and_transformers_read_each_part(folder: Path) -> None:
    from diffusers import AutoencoderKL, UNet2DConditionModel, UniPCMultistepScheduler
    from transformers import BertModel, BertTokenizer

    model = load_model(folder)
    vae = AutoencoderKL.from_pretrained(folder, subfolder="vae")
    unet = UNet2DConditionModel.from_pretrained(folder, subfolder="unet")
    for ours, theirs in ((model.autoencoder.vae, vae), (model.denoiser.unet, unet)):
        assert ours.state_dict().keys() == theirs.state_dict().keys()
        assert all(torch.equal(ours.state_dict()[k], v.float()) for k, v in theirs.state_dict().items())
    scheduler = UniPCMultistepScheduler.from_pretrained(folder, subfolder="scheduler")
    assert scheduler.config.prediction_type == "flow_prediction"
    bert = BertModel.from_pretrained(folder, subfolder="text_encoder", add_pooling_layer=False).float()
    tokens = BertTokenizer.from_pretrained(folder, subfolder="tokenizer")("a dog", return_tensors="pt")
    expected = model.text_encoder.encode(["a dog"]).hidden
    torch.testing.assert_close(bert(**tokens).last_hidden_state.detach(), expected, atol=1e-5, rtol=1e-4)


def test_a_quantized_autoencoder_is_saved_and_loaded_as_diffusers_own(folder: Path) -> None:
    from diffusers import VQModel

    from models.autoencoder import build_autoencoder

    model = load_model(folder)
    autoencoder = build_autoencoder("tiny", "vq").eval()
    parts = {"denoiser": model.denoiser, "text_encoder": model.text_encoder, "defaults": model.defaults}
    save_model(folder, autoencoder=autoencoder, **parts)  # type: ignore[arg-type]
    assert json.loads((folder / "model_index.json").read_text())["vae"] == ["diffusers", "VQModel"]
    again = load_model(folder)
    assert again.autoencoder.regularizer == "vq"
    assert again.model_id != model.model_id
    theirs = VQModel.from_pretrained(folder, subfolder="vae").state_dict()
    ours = again.autoencoder.vae.state_dict()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(tensor, theirs[name].float()) for name, tensor in ours.items())
    latents = torch.randn(1, 4, 8, 8)
    # Rounded as the file is: where rounding makes another code the nearest, a patch changes altogether.
    rounded = autoencoder.half().float()
    torch.testing.assert_close(again.autoencoder.decode(latents), rounded.decode(latents), atol=1e-5, rtol=0)


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction"])
def test_models_with_betas_keep_their_noise_process(tmp_path: Path, prediction_type: Any) -> None:
    denoiser = load_model(make_tiny_model(tmp_path / "m", prediction_type)).denoiser
    assert denoiser.prediction_type == prediction_type
    # Stable Diffusion's process ends at this abar (Rombach et al. 2022 with diffusers' scaled_linear)
    assert float(denoiser.alphas_cumprod[-1]) == pytest.approx(0.0047, abs=1e-4)


def as_stable_diffusion(folder: Path) -> None:
    """The same parts, written the way Stable Diffusion folders are."""
    edit(
        folder / "model_index.json",
        _class_name="StableDiffusionPipeline",
        _diffusers_version="0.6.0",
        safety_checker=[None, None],
        feature_extractor=["transformers", "CLIPImageProcessor"],
        requires_safety_checker=False,
        scheduler=["diffusers", "PNDMScheduler"],
    )
    scheduler = {
        "_class_name": "PNDMScheduler",
        "beta_start": 0.00085,
        "beta_end": 0.012,
        "beta_schedule": "scaled_linear",
        "num_train_timesteps": 1000,
        "skip_prk_steps": True,
        "steps_offset": 1,
    }
    (folder / "scheduler" / "scheduler_config.json").write_text(json.dumps(scheduler))
    (folder / "generation_defaults.json").unlink()
    (folder / "preview.json").unlink()
    edit(folder / "unet" / "config.json", sample_size=16)
    (folder / UNET).rename(folder / "unet" / "diffusion_pytorch_model.fp16.safetensors")


def test_a_foreign_stable_diffusion_folder_loads_with_defaults_from_its_sizes(folder: Path) -> None:
    as_stable_diffusion(folder)
    model = load_model(folder)
    assert model.denoiser.prediction_type == "epsilon"
    assert model.preview is None
    assert model.defaults == GenerationDefaults(width=64, height=64)  # 16 latents of 4 x 4 pixels


def test_old_names_of_the_autoencoders_attention_are_understood(tmp_path: Path) -> None:
    from diffusers import AutoencoderKL

    from models.folder import load_part

    vae = AutoencoderKL(block_out_channels=(8,), norm_num_groups=4)
    vae.save_config(tmp_path)
    old = {".to_q.": ".query.", ".to_k.": ".key.", ".to_v.": ".value.", ".to_out.0.": ".proj_attn."}
    weights = vae.state_dict()
    for new_name, old_name in old.items():
        weights = {name.replace(new_name, old_name): tensor for name, tensor in weights.items()}
    assert weights.keys() != vae.state_dict().keys()
    save_file(weights, tmp_path / VAE.name)
    loaded = load_part(AutoencoderKL, tmp_path).state_dict()
    assert all(torch.equal(loaded[name], tensor) for name, tensor in vae.state_dict().items())


def test_saving_again_replaces_only_what_changed(folder: Path) -> None:
    model = load_model(folder)
    files = [file for file in folder.rglob("*.safetensors")]
    before = {file: file.stat().st_mtime_ns for file in files}
    model.denoiser.unet.conv_out.bias.data += 1  # type: ignore[operator, union-attr]
    parts = {"autoencoder": model.autoencoder, "denoiser": model.denoiser, "text_encoder": model.text_encoder}
    save_model(folder, **parts, defaults=model.defaults)  # type: ignore[arg-type]
    assert [file for file in files if file.stat().st_mtime_ns != before[file]] == [folder / UNET]
    changed = load_model(folder)
    assert changed.model_id != model.model_id
    assert changed.preview == model.preview  # a file that is not given is kept
    assert not list(folder.rglob(".writing-*"))


def test_the_model_id_ignores_what_does_not_change_a_picture(folder: Path) -> None:
    before = load_model(folder).model_id
    edit(folder / "generation_defaults.json", steps=7)
    (folder / "README.md").write_text("other words")
    assert load_model(folder).model_id == before
    assert len(before) == 10


def test_a_run_gives_its_name_to_the_model_in_it(tiny_model_folder: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny_model_folder, tmp_path / "2026-11-22-apples" / "model")
    assert load_model(tmp_path / "2026-11-22-apples" / "model").name == "2026-11-22-apples"


def test_defaults_of_a_folder_without_sizes_are_those_of_stable_diffusion(folder: Path) -> None:
    (folder / "generation_defaults.json").unlink()
    edit(folder / "unet" / "config.json", sample_size=None)
    assert read_defaults(folder) == GenerationDefaults(width=512, height=512)


def test_sizes_count_the_pixels_that_are_folded_into_channels(folder: Path) -> None:
    (folder / "generation_defaults.json").unlink()
    edit(folder / "unet" / "config.json", sample_size=8)
    factor = load_model(folder).autoencoder.downsampling_factor
    assert read_defaults(folder) == GenerationDefaults(width=8 * factor, height=8 * factor)


def test_a_preview_is_read_as_numbers_per_latent_channel() -> None:
    preview = LatentPreview.from_dict({"weight": [[1, 2, 3], [4, 5, 6]], "bias": [0, 0.5, 1]}, channels=2)
    assert preview.weight == ((1, 2, 3), (4, 5, 6))
    assert preview.bias == (0, 0.5, 1)


def test_weights_that_are_not_finite_leave_the_saved_model_alone(folder: Path) -> None:
    model = load_model(folder)
    model.denoiser.unet.conv_out.bias.data[0] = torch.inf  # type: ignore[index, union-attr]
    with pytest.raises(ModelError, match="not finite"):
        save_model(
            folder,
            autoencoder=model.autoencoder,
            denoiser=model.denoiser,
            text_encoder=tiny_text_encoder(),
            defaults=model.defaults,
        )
    assert load_model(folder).model_id == model.model_id


def test_a_student_is_the_same_model_with_another_denoiser(
    tiny_model_folder: Path, taught_model_folder: Path
) -> None:
    alone, model = load_model(tiny_model_folder), load_model(taught_model_folder)
    student = model.instant
    assert alone.instant is None
    assert student is not None
    # What the teacher draws is still its own.
    assert model.model_id == alone.model_id != student.model_id
    assert (model.defaults.instant, student.instant) == (student.defaults, None)
    assert student.autoencoder is model.autoencoder
    assert student.text_encoder is model.text_encoder
    assert student.defaults.steps == 2
    assert student.denoiser.prediction_type == model.denoiser.prediction_type
    theirs = UNet2DConditionModel.from_pretrained(taught_model_folder, subfolder="unet_instant")
    for name, tensor in theirs.state_dict().items():
        assert torch.equal(tensor.float(), student.denoiser.unet.state_dict()[name])


def test_a_folder_whose_student_is_removed_is_as_before(taught_model_folder: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(taught_model_folder, tmp_path / "model")
    shutil.rmtree(folder / "unet_instant")
    assert load_model(folder).instant is None
    assert read_defaults(folder).instant is None


def give_adapters(folder: Path, layer: str, inputs: int) -> Path:
    """A student that is its teacher with all ones added to a layer of 3 x 3 and 32 outputs."""
    student = folder / INSTANT
    student.mkdir(exist_ok=True)
    shutil.copy(folder / "unet/config.json", student)
    shutil.copy(folder / "generation_defaults.json", student)
    down, up = torch.ones(1, inputs, 3, 3), torch.ones(32, 1, 1, 1)
    tensors = {f"unet.{layer}.lora_A.weight": down, f"unet.{layer}.lora_B.weight": up}
    save_file(tensors, student / LORA_FILE)
    return student / LORA_FILE


@pytest.mark.parametrize(
    ("layer", "inputs", "sentence"), [("conv_in", 9, "shape"), ("no.layer", 4, "has not")]
)
def test_adapters_of_another_network_are_refused_as_a_student(
    folder: Path, layer: str, inputs: int, sentence: str
) -> None:
    file = give_adapters(folder, layer, inputs)
    with pytest.raises(ModelError, match=sentence) as refused:
        load_model(folder)
    assert str(file) in str(refused.value)


def test_a_student_of_adapters_is_its_teacher_changed_and_changes_with_it(folder: Path) -> None:
    give_adapters(folder, "conv_in", 4)
    model = load_model(folder)
    before = model.instant
    assert before is not None
    torch.testing.assert_close(before.denoiser.unet.conv_in.weight, model.denoiser.unet.conv_in.weight + 1)
    save_part(
        UNet2DConditionModel.from_config(json.loads((folder / "unet/config.json").read_text())),
        folder / "unet",
    )
    after = load_model(folder).instant
    assert after is not None
    assert after.model_id != before.model_id
    assert not torch.equal(after.denoiser.unet.conv_out.weight, before.denoiser.unet.conv_out.weight)
