import json
import shutil
from argparse import Namespace

import pytest
import torch

from models.errors import ConfigError
from models.text_encoder import TextStates
from models.unet import build_unet
from pipelines.local_engine import LocalEngine
from pipelines.request import GenerationRequest
from training import autoencoder as stage1
from training import diffusion as stage2
from training.config import AutoencoderConfig, Data, DiffusionConfig, DiffusionModel, load_config
from training.data.pictures import load_pictures
from training.diffusion import DiffusionStage
from training.distributed import connect
from training.loop import Trainer
from training.objectives import Flow, build_objective
from training.runs import runs_folder


def settings(folder, model, **values):
    base = {
        "data.path": folder,
        "model.autoencoder": model,
        "model.text_encoder": model,
        "training.batch_size": 4,
        "training.sample_every_steps": 1000,
    }
    return [f"{key}={value}" for key, value in (base | values).items()]


def run(folder, model, run_folder, **values):
    words = settings(folder, model, **values)
    args = Namespace(config="tiny-diffusion", set=words, run=run_folder, dry_run=False)
    assert stage2.main(args) == 0


def states(batch=2, tokens=5, dim=32):
    mask = torch.ones(batch, tokens, dtype=torch.bool)
    return TextStates(torch.randn(batch, tokens, dim), mask, torch.randn(batch, dim))


@pytest.mark.slow
def test_a_few_pictures_are_learned_and_drawn_from_their_captions(
    picture_folder, tiny_model_folder, tmp_path
):
    few = tmp_path / "few"
    few.mkdir()
    rows = []
    for name in ("blue_square.png", "red_circle.png"):
        shutil.copy(picture_folder / name, few)
        text = name.removesuffix(".png").replace("_", " ")
        # Held out and learned alike: what is asked here is to learn two pictures by heart.
        rows += [{"file_name": name, "text": text, "split": split} for split in ("train", "test")]
    (few / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)))
    values = {
        "training.steps": 400,
        "optimizer.learning_rate": 4e-3,
        "training.batch_size": 16,
        "optimizer.decay_share": 0.5,
    }
    run(few, tiny_model_folder, tmp_path / "run", **values)
    losses = [json.loads(line) for line in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    losses = [line["loss"] for line in losses if "loss" in line]
    assert losses[-1] < 0.3 * losses[0]
    engine = LocalEngine(tmp_path / "run/model", "cpu")
    pixels = load_pictures(Data(path=str(few), resolution=32))[0].batch([0, 1])
    real = engine.model.autoencoder.decode(engine.model.autoencoder.encode(pixels))
    for index, prompt in enumerate(("blue square", "red circle")):
        options = {"prompt": prompt, "seed": 1, "guidance_scale": 1.0}
        request = GenerationRequest.from_options(options, engine.model.defaults)
        *_, result = engine.generate(request)
        drawn = torch.tensor(list(result.images[0].tobytes())).view(32, 32, 3).movedim(2, 0) / 127.5 - 1
        distances = (real - drawn).square().flatten(1).mean(1)
        assert distances.argmin() == index


def test_the_untrained_denoiser_predicts_zero_and_soon_learns_in_every_parameter():
    unet = build_unet("tiny", 4, 32)
    objective, latents, words = Flow(unet), torch.randn(2, 4, 8, 8), states()
    noise, t = torch.randn(2, 4, 8, 8), torch.full((2,), 500.0)
    expected = (noise - latents).square().flatten(1).mean(1)
    assert torch.allclose(objective.errors(latents, noise, t, words), expected)
    optimizer = torch.optim.Adam(unet.parameters(), lr=1e-3)
    moved = {name: p.detach().clone() for name, p in unet.named_parameters()}
    for _ in range(5):
        optimizer.zero_grad()
        objective(latents, noise, 1000 * torch.rand(2), words)[0].backward()
        optimizer.step()
    still = [name for name, p in unet.named_parameters() if torch.equal(p, moved[name])]
    assert still == []


@pytest.mark.slow
def test_after_two_steps_of_the_trainer_every_parameter_has_a_gradient(picture_folder, tiny_model_folder):
    """Two, since nothing flows back past zero outputs: the last layer moves first, then those of blocks."""
    words = settings(picture_folder, tiny_model_folder)
    config = load_config(DiffusionConfig, "tiny-diffusion", words)
    trainer = Trainer(DiffusionStage(config), config, connect(config.training))
    for step in range(2):
        trainer.step(step)
    trainer.objective(*trainer.stage.batch(2, range(4)))[0].backward()
    parameters = trainer.stage.trained.named_parameters()
    assert [name for name, p in parameters if p.grad is None or not p.grad.any()] == []


def test_padding_tokens_do_not_change_the_prediction(tiny_model_folder):
    unet = build_unet("tiny", 4, 32)
    for parameter in unet.parameters():
        torch.nn.init.normal_(parameter, std=0.05)
    objective, latents, words = Flow(unet.eval()), torch.randn(1, 4, 8, 8), states(1)
    padded = TextStates.cat([words, states(1, tokens=9)]).select([0])
    noise, t = torch.randn(1, 4, 8, 8), torch.tensor([400.0])
    with torch.no_grad():
        short, long = (objective.errors(latents, noise, t, one) for one in (words, padded))
    assert torch.allclose(short, long, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("buckets", [1, 3])
def test_cached_and_live_trainings_have_the_same_losses(picture_folder, tiny_model_folder, buckets):
    values = {"data.flip": 0.5, "data.buckets": buckets, "data.bucket_multiple": 8}
    runs = []
    for cache in ("true", "false"):
        words = settings(picture_folder, tiny_model_folder, **values, **{"data.cache": cache})
        stage = DiffusionStage(load_config(DiffusionConfig, "tiny-diffusion", words))
        torch.nn.init.normal_(stage.trained.conv_out.weight, generator=torch.Generator().manual_seed(0))
        runs.append([float(stage.objective(*stage.batch(step, range(4)))[0]) for step in range(4)])
    assert runs[0] != runs[1]  # the cache is in half precision
    assert runs[0] == pytest.approx(runs[1], rel=1e-3)


@pytest.mark.slow
def test_offset_noise_shifts_whole_channels(picture_folder, tiny_model_folder):
    noises = []
    for strength in (0.0, 0.5):
        values = {"model.offset_noise": strength, "training.batch_size": 512}
        words = settings(picture_folder, tiny_model_folder, **values)
        stage = DiffusionStage(load_config(DiffusionConfig, "tiny-diffusion", words))
        noises.append(stage.batch(3, range(512))[1])  # (512, 4, 8, 8)
        means = noises[-1].mean((2, 3))
        # Of 64 independent numbers, and the shift; four standard errors of 2,048 channels.
        assert float(means.var()) == pytest.approx(1 / 64 + strength**2, rel=4 * (2 / 2048) ** 0.5)
    shift = noises[1] - noises[0]
    assert torch.allclose(shift, shift[:, :, :1, :1].expand_as(shift), atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("prediction", ["flow", "epsilon", "v_prediction"])
def test_what_is_trained_is_exported_to_be_drawn_as_it_was_trained(
    picture_folder, tiny_model_folder, tmp_path, prediction
):
    values = {"model.prediction": prediction, "model.beta_end": 0.012, "training.steps": 2}
    run(picture_folder, tiny_model_folder, tmp_path / "run", **values)
    lines = [json.loads(line) for line in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    bins = [f"validation_loss_t{t}" for t in (0.1, 0.3, 0.5, 0.7, 0.9)]
    (measured,) = [line for line in lines if bins[0] in line]
    engine = LocalEngine(tmp_path / "run/model", "cpu")
    denoiser = engine.model.denoiser
    objective = build_objective(denoiser.unet, DiffusionModel(prediction=prediction, beta_end=0.012))
    assert denoiser.prediction_type == prediction
    assert torch.allclose(denoiser.alphas_cumprod, objective.denoiser(denoiser.unet).alphas_cumprod)
    request = GenerationRequest.from_options({"prompt": "blue square", "steps": 2}, engine.model.defaults)
    *_, result = engine.generate(request)
    assert result.images[0].size == (32, 32)
    # Almost untrained it answers about 0, so each bin is the power of its target; that of v moves with time.
    losses = [measured[name] for name in bins]
    assert (max(losses) < 1.05 * min(losses)) == (prediction != "v_prediction")


def test_a_missing_autoencoder_is_asked_for_by_its_key(picture_folder):
    words = settings(picture_folder, "", **{"model.text_encoder": "x"})
    with pytest.raises(ConfigError, match=r"model\.autoencoder is not set"):
        DiffusionStage(load_config(DiffusionConfig, "tiny-diffusion", words))


@pytest.mark.slow
def test_a_preset_of_another_shape_than_the_folders_is_refused(picture_folder, tiny_model_folder):
    words = settings(picture_folder, tiny_model_folder)
    words += [f"init.model={tiny_model_folder}", "model.preset=starter"]
    with pytest.raises(ConfigError, match=r"model\.preset is 'starter', but init\.model"):
        DiffusionStage(load_config(DiffusionConfig, "tiny-diffusion", words))
    assert not runs_folder().exists()  # refused before anything is computed or written


@pytest.mark.parametrize(("key", "value"), [("data.resolution", 34), ("model.preset", "huge")])
def test_settings_that_cannot_work_are_refused_before_anything_is_written(
    picture_folder, tiny_model_folder, key, value
):
    words = [*settings(picture_folder, tiny_model_folder), f"{key}={value}"]
    with pytest.raises(ConfigError):
        DiffusionStage(load_config(DiffusionConfig, "tiny-diffusion", words))
    assert not runs_folder().exists()


@pytest.mark.slow
def test_without_an_autoencoder_pixels_are_learned_and_drawn(picture_folder, tiny_model_folder, tmp_path):
    values = {"model.autoencoder": "pixels", "model.preset": "tiny-pixels", "training.log_every_steps": 1}
    losses = []
    for cache in ("true", "false"):
        folder = tmp_path / f"cache-{cache}"
        run(picture_folder, tiny_model_folder, folder, **values, **{"training.steps": 3, "data.cache": cache})
        lines = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
        losses.append([line["loss"] for line in lines if "loss" in line])
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)
    engine = LocalEngine(tmp_path / "cache-true/model", "cpu")
    pictures = load_pictures(Data(path=str(picture_folder), resolution=32))[0]
    latents = engine.model.autoencoder.encode(pictures.batch(range(len(pictures))))
    assert torch.allclose(latents.mean((0, 2, 3)), torch.zeros(3), atol=1e-2)
    assert torch.allclose(latents.std((0, 2, 3)), torch.ones(3), atol=1e-2)
    request = GenerationRequest.from_options({"prompt": "red circle", "seed": 0}, engine.model.defaults)
    *_, result = engine.generate(request)
    assert result.images[0].size == (32, 32)
    # and what was begun so goes on, and begins others
    values = {"init.model": tmp_path / "cache-true", "model.preset": "", "training.steps": 1}
    run(picture_folder, tiny_model_folder, tmp_path / "further", **values, **{"model.autoencoder": ""})
    words = [f"data.path={picture_folder}", f"init.model={tmp_path / 'cache-true'}"]
    config = load_config(AutoencoderConfig, "tiny-autoencoder", words)
    with pytest.raises(ConfigError, match="no autoencoder to train"):
        stage1.AutoencoderStage(config)


@pytest.mark.slow
def test_a_denoiser_learns_and_draws_on_the_latents_of_a_codebook(
    picture_folder, tiny_model_folder, tmp_path
):
    """Latents are those before quantisation, cached or not; the decoder quantises what is drawn."""
    args = Namespace(
        config="tiny-autoencoder",
        set=[f"data.path={picture_folder}", "training.steps=2", "autoencoder.regularizer=vq"],
        run=tmp_path / "vq",
        dry_run=False,
    )
    assert stage1.main(args) == 0
    values = {"model.autoencoder": tmp_path / "vq/model", "training.steps": 3, "training.log_every_steps": 1}
    losses = []
    for cache in ("true", "false"):
        folder = tmp_path / f"cache-{cache}"
        run(picture_folder, tiny_model_folder, folder, **values, **{"data.cache": cache})
        lines = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
        losses.append([line["loss"] for line in lines if "loss" in line])
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)
    engine = LocalEngine(tmp_path / "cache-true/model", "cpu")
    assert engine.model.autoencoder.regularizer == "vq"
    request = GenerationRequest.from_options({"prompt": "red circle", "seed": 0}, engine.model.defaults)
    *_, result = engine.generate(request)
    assert result.images[0].size == (32, 32)
