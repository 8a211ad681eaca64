import json
import shutil
from argparse import Namespace
from pathlib import Path

import pytest
import torch
from diffusers import UNet2DConditionModel
from safetensors.torch import load_file

from models.defaults import ImageCondition
from models.errors import ConfigError
from models.folder import load_model
from models.weights import LORA_FILE
from pipelines.local_engine import LocalEngine
from pipelines.request import GenerationRequest
from tests.stock import make_stock_model
from tests.tiny import make_tiny_model
from training import distill
from training.config import DistillConfig, load_config
from training.distill import DistillStage, resolve_distill

UNET = Path("unet/diffusion_pytorch_model.safetensors")
INSTANT = Path("unet_instant")


def words(pictures, teacher, **values):
    base = {"data.path": pictures, "init.model": teacher, "training.batch_size": 8, "training.steps": 2}
    return [f"{key}={value}" for key, value in (base | values).items()]


def configured(pictures, teacher, **values):
    return load_config(DistillConfig, "tiny-distill", words(pictures, teacher, **values))


def run(pictures, teacher, run_folder, **values):
    args = {"config": "tiny-distill", "set": words(pictures, teacher, **values), "run": run_folder}
    assert distill.main(Namespace(**args, dry_run=False)) == 0


def ask(engine, **options):
    request = GenerationRequest.from_options(
        {"prompt": "a red circle", "seed": 1, **options}, engine.model.defaults
    )
    *_, result = engine.generate(request)
    return result


@pytest.fixture(scope="module", params=["flow", "epsilon", "v_prediction", "stock"])
def teacher(request, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("teachers") / request.param
    if request.param == "stock":
        return make_stock_model(folder)
    return make_tiny_model(folder, request.param)


@pytest.mark.slow
def test_the_run_gives_the_teachers_folder_with_a_student_in_it(picture_folder, teacher, tmp_path) -> None:
    own = shutil.copytree(teacher, tmp_path / "teacher")
    (own / "README.md").write_text("What it is.\n")
    (own / "metrics.json").write_text('{"diffusion": {"pictures": 6}, "instant": {"steps": 9}}')
    guidance = load_model(own).defaults.guidance_scale
    run(picture_folder, own, tmp_path / "run", **{"optimizer.warmup_steps": 0})
    made, model = load_model(tmp_path / "run/model"), load_model(own)
    student = made.instant
    assert student is not None
    for part in ("unet", "vae", "text_encoder"):
        (file,) = (tmp_path / "run/model" / part).glob("*.safetensors")
        theirs = load_file(next((own / part).glob("*.safetensors")))
        assert all(torch.equal(tensor, theirs[name].half()) for name, tensor in load_file(file).items())
    assert (tmp_path / "run/model/README.md").read_text() == "What it is.\n"
    metrics = json.loads((tmp_path / "run/model/metrics.json").read_text())
    assert metrics == {"diffusion": {"pictures": 6}}  # the earlier student's is gone
    assert (made.defaults.width, made.defaults.steps) == (model.defaults.width, model.defaults.steps)
    assert made.preview is not None
    assert student.denoiser.prediction_type == model.denoiser.prediction_type

    drawn = (student.defaults.steps, student.defaults.sampler, student.defaults.guidance_scale)
    assert drawn == (4, "Euler", 1.0)
    theirs = UNet2DConditionModel.from_pretrained(tmp_path / "run/model", subfolder="unet_instant")
    old, new = model.denoiser.unet.state_dict(), theirs.state_dict()
    assert old.keys() == new.keys()
    assert sum(not torch.equal(old[name].half(), new[name].half()) for name in old) > 0.9 * len(old)

    engine, calls = LocalEngine(made, "cpu"), []
    for one in (made, student):
        one.denoiser.unet.register_forward_hook(lambda unet, *_: calls.append(unet))
    assert ask(engine, instant=True).images[0].size == (32, 32)
    assert calls == [student.denoiser.unet] * 4  # and the teacher is not asked

    recorded = load_config(DistillConfig, str(tmp_path / "run/config.toml"), [])
    assert recorded.distill.guidance_scale == guidance
    assert resolve_distill(recorded) == recorded
    lines = [json.loads(line) for line in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    (measured,) = [line for line in lines if "validation_loss_step1" in line]
    assert {f"validation_loss_step{step}" for step in (1, 2, 3, 4)} < measured.keys()
    assert (tmp_path / "run/samples/step-0000002.png").is_file()


def test_the_student_begins_as_the_teacher_who_stays_as_he_was(picture_folder, tiny_model_folder) -> None:
    stage = DistillStage(configured(picture_folder, tiny_model_folder))
    began = load_file(tiny_model_folder / UNET)
    for unet in (stage.trained, stage.teacher.unet):
        assert all(torch.equal(tensor, began[name].float()) for name, tensor in unet.state_dict().items())
    optimizer = torch.optim.Adam(stage.trained.parameters(), 1e-2)
    stage.objective(*stage.batch(0, range(8)))[0].backward()
    optimizer.step()
    assert not torch.equal(stage.trained.conv_in.weight, stage.teacher.unet.conv_in.weight)
    assert torch.equal(stage.teacher.unet.conv_in.weight, began["conv_in.weight"].float())


def test_a_student_goes_on_from_its_weights_after_the_same_teacher(
    picture_folder, taught_model_folder
) -> None:
    stage = DistillStage(configured(picture_folder, taught_model_folder, **{"distill.begin": "student"}))
    for unet, file in ((stage.trained, INSTANT / UNET.name), (stage.teacher.unet, UNET)):
        began = load_file(taught_model_folder / file)
        assert all(torch.equal(tensor, began[name].float()) for name, tensor in unet.state_dict().items())
    assert not torch.equal(stage.trained.conv_out.weight, stage.teacher.unet.conv_out.weight)


ADAPTERS = {"lora.rank": 3, "lora.targets": '["to_q", "to_out.0", "conv1"]', "optimizer.learning_rate": 1e-2}


@pytest.mark.slow
def test_a_student_of_adapters_is_kept_as_them_and_draws_as_diffusers_does_with_them(
    picture_folder, tiny_model_folder, tmp_path
) -> None:
    run(picture_folder, tiny_model_folder, tmp_path / "run", **ADAPTERS, **{"optimizer.warmup_steps": 0})
    made = tmp_path / "run/model"
    kept = {file.name for file in (made / INSTANT).iterdir()}
    assert kept == {"config.json", "generation_defaults.json", LORA_FILE}
    model = load_model(made)
    assert model.model_id == load_model(tiny_model_folder).model_id != model.instant.model_id
    theirs = UNet2DConditionModel.from_pretrained(made, subfolder="unet").eval()
    with torch.no_grad():
        states = model.text_encoder.encode(["a red circle"])
        given = torch.randn(1, 4, 8, 8), torch.tensor(500), states.hidden, states.pooled
        plain, taught = theirs(*given).sample, model.instant.denoiser.unet(*given).sample
        theirs.load_lora_adapter(made / INSTANT, prefix="unet", weight_name=LORA_FILE)
        torch.testing.assert_close(taught, theirs(*given).sample, atol=1e-5, rtol=1e-4)
    assert not torch.allclose(taught, plain, atol=1e-4)
    assert ask(LocalEngine(model, "cpu"), instant=True).request.steps == 4


def test_adapters_begin_as_the_student_there_is_and_the_frozen_weights_stay(
    picture_folder, taught_model_folder
) -> None:
    values = ADAPTERS | {"lora.rank": 64, "distill.begin": "student"}
    stage = DistillStage(configured(picture_folder, taught_model_folder, **values))
    wanted, began = (load_file(taught_model_folder / file) for file in (INSTANT / UNET.name, UNET))
    unet = stage.parts(stage.trained)[0].state_dict()
    for name, tensor in unet.items():
        adapted = name.endswith(("to_q.weight", "to_out.0.weight", "conv1.weight"))
        torch.testing.assert_close(tensor, (wanted if adapted else began)[name].float(), atol=1e-5, rtol=1e-4)
    assert torch.equal(stage.teacher.unet.conv_out.weight, began["conv_out.weight"].float())


def test_rows_and_windows_are_those_of_seed_step_and_place(picture_folder, tiny_model_folder) -> None:
    stage = DistillStage(configured(picture_folder, tiny_model_folder))
    whole, half = stage.batch(3, range(8)), stage.batch(3, range(4, 8))
    for part in (0, 1, 2):  # latents, noise, windows
        assert torch.equal(whole[part][4:], half[part])
    assert torch.bincount(whole[2]).tolist() == [2, 2, 2, 2]
    assert not torch.equal(whole[2], stage.batch(4, range(8))[2])  # also of one picture all come


@pytest.mark.slow
def test_a_model_that_is_shown_pictures_has_a_student_that_is_and_draws_by_its_sampler(
    picture_folder, tmp_path
) -> None:
    folder = make_tiny_model(tmp_path / "paints", image_condition=ImageCondition("inpaint"))
    settings = {"distill.steps": 2, "distill.guidance_scale": 1.5, "distill.sampler": "Euler a"}
    run(picture_folder, folder, tmp_path / "run", **settings)
    engine = LocalEngine(tmp_path / "run/model", "cpu")
    assert engine.model.instant.image_condition == ImageCondition("inpaint")
    drawn = ask(engine, instant=True).request
    assert (drawn.steps, drawn.sampler) == (2, "Euler a")


def test_what_cannot_be_distilled_is_refused_by_its_key(picture_folder, tiny_model_folder, tmp_path) -> None:
    classes = make_tiny_model(tmp_path / "classes", classes=["cat"])
    for teacher, more, sentence in (
        ("", {}, r"init\.model is not set"),
        (classes, {}, r"init\.model .*classes draws classes"),
        (tiny_model_folder, {"distill.begin": "student"}, "has none"),
        (tiny_model_folder, {"training.sharding": "fsdp2"}, r'training\.sharding is "fsdp2"'),
        (tiny_model_folder, {"lora.rank": 2, "lora.preserve": 0.5}, r"lora\.preserve"),
    ):
        with pytest.raises(ConfigError, match=sentence):
            DistillStage(configured(picture_folder, teacher, **more))
    for key, value in (
        ("distill.steps", 0),
        ("distill.substeps", 0),
        ("distill.guidance_scale", "much"),
        ("distill.sampler", "Heun"),
    ):
        with pytest.raises(ConfigError, match=key.replace(".", r"\.")):
            configured(picture_folder, tiny_model_folder, **{key: value})
