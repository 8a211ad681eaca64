"""Every kind of condition, from training to a model folder that draws."""

import json

import pytest
import torch
from PIL import Image, ImageDraw
from safetensors.torch import load_file

from models.folder import load_autoencoder, save_part
from models.image_condition import image_condition
from models.normalizer import fold_normalization
from pipelines.local_engine import LocalEngine
from pipelines.request import GenerationRequest
from pipelines.text_to_image import text_to_image
from tests.training.processes import trained
from training.config import DiffusionConfig, load_config
from training.diffusion import DiffusionStage
from training.distributed import connect
from training.loop import Trainer

KINDS = {
    "class": {"model.condition": "class"},
    "none": {"model.condition": "none"},
    "scratch": {"model.train_text_encoder": "scratch"},
    "finetune": {"model.train_text_encoder": "finetune"},
    "inpaint": {"model.image_condition": "inpaint"},
    "upscale": {"model.image_condition": "upscale", "model.condition": "none"},
}


@pytest.fixture(scope="module")
def shapes(tmp_path_factory):
    """Eight pictures of 32 px in the folders of their classes."""
    folder = tmp_path_factory.mktemp("shapes")
    for shape in ("circle", "square"):
        (folder / shape).mkdir()
        for number, colour in enumerate(("red", "green", "blue", "black")):
            image = Image.new("RGB", (32, 32), "white")
            draw = ImageDraw.Draw(image)
            box = (4 + number, 4, 27, 27 - number)
            (draw.ellipse if shape == "circle" else draw.rectangle)(box, fill=colour)
            image.save(folder / shape / f"{colour}.png")
            (folder / shape / f"{colour}.txt").write_text(f"{colour} {shape}" if number else shape)
    return folder


def configured(pictures, model, **values):
    wanted = {
        "data.path": pictures,
        "model.autoencoder": model,
        "model.text_encoder": model,
        "training.batch_size": 8,
        "training.steps": 1000,
        "optimizer.warmup_steps": 1,
        "optimizer.learning_rate": 4e-3,
        "optimizer.epsilon": 1e-8,
        "ema.max_decay": 0.9,
        **values,
    }
    return load_config(DiffusionConfig, "tiny-diffusion", [f"{key}={value}" for key, value in wanted.items()])


def fit(config, steps):
    """A stage trained for some steps, its averaged weights, and the mean loss of the first and last ten."""
    stage = DiffusionStage(config)
    trainer = Trainer(stage, config, connect(config.training))
    losses = [float(trainer.step(step)["loss"]) for step in range(steps)]
    trainer.ema.copy_to(trainer.averaged)
    return stage, trainer.averaged, sum(losses[:10]) / 10, sum(losses[-10:]) / 10


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_what_was_trained_draws_the_same_from_its_folder(shapes, tiny_model_folder, tmp_path, kind):
    config = configured(shapes, tiny_model_folder, **KINDS[kind])
    stage, averaged, first, last = fit(config, steps=60)
    assert last < 0.7 * first
    assert set(stage.sample(averaged, tmp_path, 60)) == {
        f"validation_loss_t{t}" for t in (0.1, 0.3, 0.5, 0.7, 0.9)
    }
    columns = 6 if stage.shown else len(stage.prompts)
    assert Image.open(tmp_path / "step-0000060.png").width == columns * 32
    stage.export(averaged, tmp_path / "model")
    engine = LocalEngine(tmp_path / "model", "cpu")
    options = {"prompt": stage.prompts[1], "seed": 5, "steps": 8}
    request = GenerationRequest.from_options(options, engine.model.defaults)
    condition = None
    if stage.shown is not None:
        condition = stage.shown.encode(stage.originals[1:2], 0, [1])
    here = stage.model(averaged, "here", tmp_path)
    *_, expected = text_to_image(here, request, condition=condition)
    *_, found = text_to_image(engine.model, request, condition=condition)
    pixels = [torch.tensor(list(one.images[0].tobytes())) for one in (expected, found)]
    assert (pixels[0] - pixels[1]).abs().max() <= 6  # weights in half precision
    assert engine.model.image_condition == stage.image_condition


@pytest.mark.slow
def test_classes_are_told_apart_and_trained_with_the_denoiser(shapes, tiny_model_folder, tmp_path):
    config = configured(shapes, tiny_model_folder, **KINDS["class"])
    stage = DiffusionStage(config)
    before = stage.encoder.embedding.weight.detach().clone()
    stage, averaged, *_ = fit(config, steps=5)
    moved = (stage.encoder.embedding.weight - before).abs().amax(1)
    assert (moved > 0).all()
    assert (averaged["encoder"].embedding.weight - before).abs().max() > 0


@pytest.mark.slow
def test_an_inpainting_model_keeps_what_it_is_shown(shapes, tiny_model_folder, tmp_path):
    rows = [
        {"file_name": f"{number}.png", "split": split} for number in range(4) for split in ("train", "test")
    ]
    (tmp_path / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)))
    for number, colours in enumerate(
        (("white", "red"), ("yellow", "green"), ("grey", "blue"), ("cyan", "black"))
    ):
        image = Image.new("RGB", (32, 32), colours[0])
        ImageDraw.Draw(image).ellipse((4 + number, 4, 27, 27 - number), fill=colours[1])
        image.save(tmp_path / f"{number}.png")
    vae = load_autoencoder(tiny_model_folder).vae
    values = KINDS["inpaint"] | {"model.condition": "none"}  # the picture alone says what is to be kept
    latents = DiffusionStage(configured(tmp_path, tiny_model_folder, **values)).validation_latents
    fold_normalization(vae, latents.mean((0, 2, 3)), latents.std((0, 2, 3)))  # as a trained one comes
    save_part(vae, tmp_path / "vae")
    values |= {
        "model.autoencoder": tmp_path,
        "model.prediction": "v_prediction",  # trained as often where only the condition tells pictures apart
        "training.batch_size": 16,
        "training.steps": 200,
        "optimizer.decay_share": 0.5,
        "optimizer.warmup_steps": 20,
    }
    stage, averaged, *_ = fit(configured(tmp_path, tiny_model_folder, **values), steps=200)
    model, known = stage.model(averaged, "here", tmp_path), stage.validation_latents[..., :4]  # (4, C, 8, 4)
    mask = torch.zeros(1, 1, 32, 32)
    mask[..., 16:] = 1  # the right half is unknown
    for number, pixels in enumerate(stage.pictures.batch(range(4)).split(1)):
        condition = image_condition(stage.autoencoder, pixels, mask)
        request = GenerationRequest.from_options({"prompt": "", "seed": 7, "steps": 10}, model.defaults)
        *_, last, _ = text_to_image(model, request, condition=condition)
        errors = (known - last.denoised[..., :4]).square().flatten(1).mean(1)
        assert errors.argmin() == number
        assert errors[number] < 0.3 * (known - known.mean(0)).square().mean()


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_rows_of_a_batch_are_the_same_in_every_share_of_it(shapes, tiny_model_folder, kind):
    stage = DiffusionStage(configured(shapes, tiny_model_folder, **KINDS[kind]))
    whole, parts = stage.batch(3, range(8)), [stage.batch(3, range(first, first + 4)) for first in (0, 4)]
    for number in (0, 1, 2, 4):
        if whole[number] is None:
            assert parts[0][number] is None
        else:
            torch.testing.assert_close(torch.cat([part[number] for part in parts]), whole[number])
    if kind in ("class", "none"):
        assert torch.equal(torch.cat([part[3][0] for part in parts]), whole[3][0])
    elif kind in ("scratch", "finetune"):
        real = [[row[on].tolist() for row, on in zip(*batch[3], strict=True)] for batch in (whole, *parts)]
        assert real[1] + real[2] == real[0]


@pytest.mark.slow
def test_a_model_that_learns_to_see_pictures_begins_with_what_it_knew(shapes, tiny_model_folder):
    known = {"init.model": tiny_model_folder}
    blind, seeing = (
        DiffusionStage(configured(shapes, tiny_model_folder, **known, **more))
        for more in ({}, KINDS["inpaint"])
    )
    for (t, one), (_, other) in zip(
        blind.validation_losses(blind.trained), seeing.validation_losses(seeing.trained), strict=True
    ):
        assert one == pytest.approx(other, rel=1e-5), t


@pytest.mark.slow
@pytest.mark.parametrize(
    "kinds",
    [
        pytest.param(("class", "inpaint"), marks=pytest.mark.exhaustive, id="class and inpaint"),
        pytest.param(("scratch", "upscale"), id="scratch and upscale"),
    ],
)
def test_processes_train_the_same_weights_as_one_also_jointly_and_with_pictures(
    shapes, tiny_model_folder, tmp_path, kinds
):
    settings = {
        "data.path": shapes,
        "model.autoencoder": tiny_model_folder,
        "model.text_encoder": tiny_model_folder,
        "training.steps": 4,
        "training.batch_size": 8,
        "optimizer.warmup_steps": 1,
        **KINDS[kinds[1]],
        **KINDS[kinds[0]],
        "model.condition": "class" if kinds[0] == "class" else "text",
    }
    weights = {}
    for name, ranks, more in (
        ("alone", 1, {}),
        ("two", 2, {}),
        ("sharded", 2, {"training.sharding": "fsdp2"}),
    ):
        trained("diffusion", tmp_path / name, ranks, **settings, **more)
        weights[name] = load_file(tmp_path / name / "checkpoints/step-4/weights.safetensors")
    for name in ("two", "sharded"):
        differences = {
            key: float((a - weights[name][key]).abs().max()) for key, a in weights["alone"].items()
        }
        assert max(differences.values()) < 1e-6, max(differences, key=differences.get)
