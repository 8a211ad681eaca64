import json
import shutil
from argparse import Namespace
from pathlib import Path

import pytest
import torch
from diffusers import PNDMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from safetensors import safe_open
from safetensors.torch import load_file

from models.errors import ConfigError, ModelError
from models.folder import load_model, model_id
from models.weights import LORA_FILE
from pipelines.local_engine import LocalEngine
from pipelines.request import GenerationRequest
from tests.stable_diffusion import make_model
from tests.stock import make_stock_model
from tests.tiny import make_tiny_model
from tests.training.processes import trained
from training import diffusion as stage2
from training.config import DiffusionConfig, load_config
from training.diffusion import DiffusionStage
from training.finetune import resolve_diffusion


@pytest.fixture(autouse=True)
def own_runs(tmp_path, monkeypatch):
    monkeypatch.setenv("LATENT_STUDIO_RUNS", str(tmp_path / "runs"))


@pytest.fixture(scope="module")
def stock(tmp_path_factory) -> Path:
    return make_stock_model(tmp_path_factory.mktemp("stock") / "model")


def words(pictures, begin, **values):
    base = {"data.path": pictures, "init.model": begin, "training.batch_size": 4, "training.steps": 3}
    return [f"{key}={value}" for key, value in (base | values).items()]


def configured(pictures, begin, **values):
    return load_config(DiffusionConfig, "tiny-diffusion", words(pictures, begin, **values))


def run(pictures, begin, run_folder, **values):
    args = {"config": "tiny-diffusion", "set": words(pictures, begin, **values), "run": run_folder}
    assert stage2.main(Namespace(**args, dry_run=False)) == 0


def draw(folder):
    engine = LocalEngine(folder, "cpu")
    *_, result = engine.generate(
        GenerationRequest.from_options(
            {"prompt": "a red circle", "seed": 1, "steps": 3}, engine.model.defaults
        )
    )
    return result.images[0]


def output(unet, width=16):
    generator = torch.Generator().manual_seed(1)
    latents, states, pooled = (
        torch.randn(shape, generator=generator) for shape in ((2, 4, 8, 8), (2, 5, width), (2, width))
    )
    with torch.no_grad():
        return unet(latents, 500.0, states, class_labels=pooled).sample


@pytest.mark.slow
def test_a_stable_diffusion_folder_is_trained_on_as_it_is(picture_folder, stock, tmp_path, capsys) -> None:
    run(picture_folder, stock, tmp_path / "run", **{"optimizer.warmup_steps": 0})
    assert f"begun from {stock}" in capsys.readouterr().out
    before, after = load_model(stock), load_model(tmp_path / "run/model")
    assert after.denoiser.prediction_type == "epsilon"
    torch.testing.assert_close(after.denoiser.alphas_cumprod, before.denoiser.alphas_cumprod)
    old, new = before.denoiser.unet.state_dict(), after.denoiser.unet.state_dict()
    assert old.keys() == new.keys()
    moved = [name for name in old if not torch.equal(old[name], new[name])]
    assert len(moved) > 0.9 * len(old)
    for part in ("autoencoder", "text_encoder"):
        frozen = getattr(after, part).state_dict()
        for name, tensor in getattr(before, part).state_dict().items():
            torch.testing.assert_close(
                frozen[name], tensor, atol=1e-3, rtol=1e-3
            )  # written in half precision
    assert draw(tmp_path / "run/model").size == (32, 32)
    recorded = load_config(DiffusionConfig, str(tmp_path / "run/config.toml"), [])
    assert recorded.model.autoencoder == recorded.model.text_encoder == recorded.init.model == str(stock)
    assert resolve_diffusion(recorded) == recorded


def test_the_loss_of_a_stock_model_is_that_of_its_own_scheduler(picture_folder, stock) -> None:
    stage = DiffusionStage(configured(picture_folder, stock))
    latents, noise, timestep, states, _ = stage.batch(0, range(4))
    theirs = UNet2DConditionModel.from_pretrained(stock, subfolder="unet")
    scheduler = PNDMScheduler.from_pretrained(stock, subfolder="scheduler")
    with torch.no_grad():
        loss, _ = stage.objective(latents, noise, timestep, states)
        noised = scheduler.add_noise(latents, noise, timestep.long())
        expected = (theirs(noised, timestep, states.hidden).sample - noise).square().mean()
    assert float(loss) == pytest.approx(float(expected), rel=1e-4)


@pytest.mark.slow
def test_a_run_goes_on_from_the_folder_of_an_earlier_one(picture_folder, tiny_model_folder, tmp_path) -> None:
    run(picture_folder, tiny_model_folder, tmp_path / "first")
    stage = DiffusionStage(configured(picture_folder, tmp_path / "first"))
    assert stage.config.init.model == str(tmp_path / "first/model")
    begun, written = (
        stage.trained.state_dict(),
        load_file(tmp_path / "first/model/unet/diffusion_pytorch_model.safetensors"),
    )
    assert begun.keys() == written.keys()
    assert all(torch.equal(begun[name], written[name].float()) for name in written)
    assert all(parameter.requires_grad for parameter in stage.trained.parameters())


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction", "flow"])
def test_what_is_predicted_comes_from_the_folder(prediction, picture_folder, tmp_path) -> None:
    folder = make_tiny_model(tmp_path / "model", prediction)
    config = resolve_diffusion(configured(picture_folder, folder))
    assert config.model.prediction == prediction
    assert config.model.preset == ""
    other = "flow" if prediction == "epsilon" else "epsilon"
    with pytest.raises(ConfigError, match=rf"'{other}', but init\.model .*/model predicts '{prediction}'"):
        resolve_diffusion(configured(picture_folder, folder, **{"model.prediction": other}))


def test_settings_that_contradict_the_folder_are_refused_naming_both(
    picture_folder, tiny_model_folder, stock, tmp_path
) -> None:
    for begin, values, words in (
        (
            tiny_model_folder,
            {"model.preset": "starter"},
            r"model\.preset is 'starter', but init\.model .*tiny",
        ),
        (tiny_model_folder, {"model.text_encoder": stock}, r"model\.text_encoder gives 16 .* takes 32"),
        (tiny_model_folder, {"lora.rank": 2, "model.image_condition": "inpaint"}, r"reads 4 channels"),
        (
            tiny_model_folder,
            {"lora.rank": 2, "model.condition": "class"},
            r'condition is "class", but init\.model',
        ),
    ):
        with pytest.raises(ConfigError, match=words):
            DiffusionStage(configured(picture_folder, begin, **values))
    with pytest.raises(ModelError, match=r"no model folder"):
        DiffusionStage(configured(picture_folder, picture_folder / "nothing"))
    xl = make_model("sdxl", tmp_path / "sdxl")
    with pytest.raises(ConfigError, match=r"init\.model .*sdxl reads with two text encoders \(SDXL\)"):
        DiffusionStage(configured(picture_folder, xl))
    agreeing = configured(picture_folder, tiny_model_folder, **{"model.preset": "tiny"})
    assert DiffusionStage(agreeing).config.model.preset == "tiny"


def test_without_a_folder_the_presets_are_what_they_were() -> None:
    config = resolve_diffusion(load_config(DiffusionConfig, "starter-diffusion", []))
    assert (config.model.preset, config.model.prediction) == ("starter", "flow")
    assert config.model.autoencoder == config.model.text_encoder == "checkpoints/starter"


LORA = {"lora.rank": 4, "lora.alpha": 8, "optimizer.learning_rate": 1e-2, "optimizer.warmup_steps": 0}


@pytest.mark.slow
def test_adapters_learn_and_nothing_else_moves(picture_folder, tiny_model_folder) -> None:
    stage = DiffusionStage(configured(picture_folder, tiny_model_folder, **{"lora.rank": 8}))
    batch, losses = stage.batch(0, range(4)), []
    parameters = dict(stage.objective.named_parameters())
    frozen = {name: p.detach().clone() for name, p in parameters.items() if "lora" not in name}
    optimizer = torch.optim.Adam(stage.trained.parameters(), lr=2e-2)
    for _ in range(40):
        loss, _ = stage.objective(*batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss))
    assert losses[-1] < 0.85 * losses[0]
    assert all(torch.equal(parameters[name], value) for name, value in frozen.items())


@pytest.mark.slow
def test_adapters_are_all_that_is_trained_kept_and_written(picture_folder, stock, tmp_path) -> None:
    run(picture_folder, stock, tmp_path / "run", **LORA)
    trained = load_file(tmp_path / "run/checkpoints/step-3/weights.safetensors")
    assert all(name.endswith(("lora_A.weight", "lora_B.weight")) for name in trained)
    base_bytes = (stock / "unet/diffusion_pytorch_model.safetensors").stat().st_size
    folder = tmp_path / "run/checkpoints/step-3"
    assert sum(file.stat().st_size for file in folder.iterdir()) < 0.5 * base_bytes

    plain, merged = (
        UNet2DConditionModel.from_pretrained(path, subfolder="unet").float()
        for path in (stock, tmp_path / "run/model")
    )
    before = output(plain)
    plain.load_lora_adapter(tmp_path / "run/model", prefix="unet", weight_name=LORA_FILE)
    change = (output(plain) - before).abs().max()
    assert change > 1e-3
    # The folder beside the adapters has them merged, in half precision.
    assert (output(merged) - output(plain)).abs().max() < max(0.02 * change, 1e-3)

    with safe_open(tmp_path / "run/model" / LORA_FILE, "pt") as file:
        header = file.metadata()
    assert header["base_model_id"] == model_id(stock)
    assert "red circle" in json.loads(header["trigger_captions"])
    assert json.loads(header["lora_adapter_metadata"])["unet.lora_alpha"] == 8
    assert draw(tmp_path / "run/model").size == (32, 32)


@pytest.mark.slow
def test_a_stock_pipeline_draws_with_the_adapters_of_denoiser_and_text_encoder(
    picture_folder, stock, tmp_path
) -> None:
    run(picture_folder, stock, tmp_path / "run", **LORA, **{"lora.text_encoder": "true"})
    pipeline = StableDiffusionPipeline.from_pretrained(stock)
    tokens = torch.tensor([[0, 9, 12, 1]])
    before = pipeline.text_encoder(tokens).last_hidden_state
    pipeline.load_lora_weights(tmp_path / "run/model", weight_name=LORA_FILE)
    adapted = pipeline.text_encoder(tokens).last_hidden_state
    assert (adapted - before).abs().max() > 1e-3
    model = load_model(tmp_path / "run/model")
    ours = model.text_encoder.encoder(tokens).last_hidden_state
    torch.testing.assert_close(ours, adapted, atol=1e-2, rtol=1e-2)
    torch.testing.assert_close(output(model.denoiser.unet), output(pipeline.unet), atol=1e-2, rtol=1e-2)


@pytest.mark.slow
@pytest.mark.parametrize("text_encoder", ["false", "true"])
def test_adapters_go_on_to_the_bit_where_they_were_stopped(
    text_encoder, picture_folder, tiny_model_folder, tmp_path
) -> None:
    values = {
        **LORA,
        "lora.text_encoder": text_encoder,
        "training.steps": 6,
        "checkpoints.every_steps": 2,
        "checkpoints.keep": 9,
    }
    run(picture_folder, tiny_model_folder, tmp_path / "whole", **values)
    shutil.copytree(tmp_path / "whole", tmp_path / "cut")
    for step in (4, 6):
        shutil.rmtree(tmp_path / f"cut/checkpoints/step-{step}")
    (tmp_path / "cut/finished.json").unlink()
    run(picture_folder, tiny_model_folder, tmp_path / "cut", **values)
    for part in ("weights", "ema", "optimizer-exp_avg", "optimizer-exp_avg_sq"):
        name = f"checkpoints/step-6/{part}.safetensors"
        assert (tmp_path / "cut" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    for name in ("unet/diffusion_pytorch_model", "text_encoder/model"):
        file = f"model/{name}.safetensors"
        assert (tmp_path / "cut" / file).read_bytes() == (tmp_path / "whole" / file).read_bytes()


def test_adapters_are_bound_to_the_model_they_were_begun_on(picture_folder, tmp_path) -> None:
    folder = make_tiny_model(tmp_path / "model")
    config = resolve_diffusion(configured(picture_folder, folder, **{"lora.rank": 2}))
    assert config.lora.base == model_id(folder)
    make_tiny_model(folder, seed=1)
    with pytest.raises(ConfigError, match=rf"lora\.base is {config.lora.base}, but init\.model"):
        resolve_diffusion(config)
    with pytest.raises(ConfigError, match=r"lora\.rank is 2, but init\.model is not set"):
        resolve_diffusion(configured(picture_folder, "", **{"lora.rank": 2}))


@pytest.mark.slow
def test_two_processes_train_the_adapters_of_one(picture_folder, stock, tmp_path) -> None:
    values = {
        **LORA,
        "data.path": picture_folder,
        "init.model": stock,
        "optimizer.learning_rate": 1e-3,
        "lora.text_encoder": "true",
        "training.steps": 3,
        "training.batch_size": 4,
    }
    for ranks in (1, 2):
        trained("diffusion", tmp_path / str(ranks), ranks, **values)
    for part in ("weights", "ema"):
        one, two = (load_file(tmp_path / f"{n}/checkpoints/step-3/{part}.safetensors") for n in (1, 2))
        assert one.keys() == two.keys()
        assert max(float((one[name] - two[name]).abs().max()) for name in one) < 1e-6
