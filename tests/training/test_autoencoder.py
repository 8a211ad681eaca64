import errno
import json
import math
import shutil

import pytest
import torch
from diffusers.models.autoencoders.vq_model import VQModel

from models.autoencoder import build_autoencoder
from models.errors import ConfigError, StudioError
from models.folder import load_autoencoder
from models.normalizer import fold_normalization
from tests.training.autoencoder_runs import run, settings
from tests.training.training_data import picture
from training.autoencoder import AutoencoderStage
from training.autoencoder_objective import AutoencoderObjective
from training.config import AutoencoderConfig, load_config
from training.loop import learning_rate
from training.run import Run


def lines(run_folder):
    return [json.loads(line) for line in (run_folder / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.slow
def test_a_run_stopped_by_a_lost_process_goes_on_to_the_same_weights_and_numbers(picture_folder, tmp_path):
    values = {"training.steps": 9, "checkpoints.every_steps": 3, "training.log_every_steps": 1}
    run(picture_folder, tmp_path / "whole", **values)
    run(picture_folder, tmp_path / "cut", **values)
    # Back to where the machine stood after step 3, in the middle of an epoch and of a line of the log.
    cut = tmp_path / "cut"
    (cut / "finished.json").unlink()
    for step in (6, 9):
        for file in (cut / "checkpoints" / f"step-{step}").glob("*.safetensors"):
            file.write_bytes(file.read_bytes()[:100])
    run(picture_folder, tmp_path / "short", **(values | {"checkpoints.keep": 9}))
    source = tmp_path / "short/checkpoints/step-3"
    shutil.copytree(source, cut / "checkpoints/step-3", dirs_exist_ok=True)
    run(picture_folder, cut, **values)
    for part in ("weights", "ema", "optimizer-exp_avg", "optimizer-exp_avg_sq", "optimizer-step"):
        name = f"checkpoints/step-9/{part}.safetensors"
        assert (cut / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    timing = {"samples_per_second", "memory_bytes", "memory_peak_bytes"}
    strip = [{k: v for k, v in line.items() if k not in timing} for line in lines(cut)]
    assert strip == [{k: v for k, v in line.items() if k not in timing} for line in lines(tmp_path / "whole")]


@pytest.mark.slow
def test_training_brings_held_out_pictures_closer(picture_folder, tmp_path):
    values = {"training.steps": 120, "training.sample_every_steps": 20, "training.batch_size": 8}
    run(picture_folder, tmp_path / "run", **values)
    psnr = [line["held_out_psnr_db"] for line in lines(tmp_path / "run") if "held_out_psnr_db" in line]
    assert psnr[-1] > psnr[0] + 2
    exported = load_autoencoder(tmp_path / "run/model")
    stage = AutoencoderStage(load_config(AutoencoderConfig, "tiny-autoencoder", settings(picture_folder)))
    latents = exported.encode(stage.pictures.batch(list(range(len(stage.pictures)))))
    assert latents.mean((0, 2, 3)).abs().max() < 0.05
    assert (latents.std((0, 2, 3)) - 1).abs().max() < 0.05


@pytest.mark.slow
def test_a_quantized_autoencoder_learns_uses_its_codes_and_is_exported_as_diffusers_own(
    picture_folder, tmp_path
):
    values = {
        "autoencoder.regularizer": "vq", "training.steps": 120, "training.sample_every_steps": 20,
        "training.batch_size": 8,
    }  # fmt: skip
    run(picture_folder, tmp_path / "run", **values)
    shown = [line for line in lines(tmp_path / "run") if "held_out_psnr_db" in line]
    assert shown[-1]["held_out_psnr_db"] > shown[0]["held_out_psnr_db"] + 2
    assert 1 < shown[-1]["held_out_codebook_perplexity"] <= 64 * shown[-1]["held_out_codebook_usage"]
    stage = AutoencoderStage(
        load_config(
            AutoencoderConfig, "tiny-autoencoder", [*settings(picture_folder), "autoencoder.regularizer=vq"]
        )
    )
    pixels = stage.pictures.batch(list(range(len(stage.pictures))))
    exported = load_autoencoder(tmp_path / "run/model")
    latents = exported.encode(pixels)  # (N, C, h, w)
    assert latents.mean((0, 2, 3)).abs().max() < 0.05
    assert abs(latents.var((0, 2, 3)).mean().sqrt() - 1) < 0.05  # one scale for all channels
    theirs = VQModel.from_pretrained(tmp_path / "run/model", subfolder="vae")
    folded = torch.nn.functional.pixel_unshuffle(pixels, 2)
    with torch.no_grad():
        output = torch.nn.functional.pixel_shuffle(theirs(folded).sample, 2)
    assert torch.allclose(exported.decode(latents), output, atol=1e-4)


def test_folding_changes_the_latents_scale_and_not_one_pixel():
    model = build_autoencoder("tiny").double()
    torch.nn.init.normal_(model.vae.quant_conv.bias)
    pixels = torch.rand(2, 3, 16, 16, dtype=torch.double) * 2 - 1
    before, posterior = model.reconstruct(model.posterior(pixels).mode()), model.posterior(pixels)
    mean = torch.randn(model.latent_channels, dtype=torch.double)
    std = torch.rand(model.latent_channels, dtype=torch.double) + 0.5
    fold_normalization(model.vae, mean, std)
    after = model.posterior(pixels)
    shape = (1, -1, 1, 1)
    assert torch.allclose(model.reconstruct(after.mode()), before, atol=1e-12)
    assert torch.allclose(after.mean, (posterior.mean - mean.view(shape)) / std.view(shape), atol=1e-12)
    assert torch.allclose(after.std, posterior.std / std.view(shape), atol=1e-12)


def test_a_batch_is_a_function_of_seed_step_and_position(picture_folder):
    words = [*settings(picture_folder), "data.crop=16", "autoencoder.equivariance=0.5"]
    stage = AutoencoderStage(load_config(AutoencoderConfig, "tiny-autoencoder", words))
    pixels, noise, move, _ = stage.batch(3, range(4))
    parts = [stage.batch(3, range(first, first + 2)) for first in (0, 2)]
    assert torch.equal(pixels, torch.cat([part[0] for part in parts]))
    assert torch.equal(noise, torch.cat([part[1] for part in parts]))
    assert {part[2] for part in parts} == {move}
    assert not torch.equal(noise, stage.batch(4, range(4))[1])
    assert {stage.batch(step, range(1))[2] for step in range(60)} == {None, 0, 1, 2, 3, 4, 5}


def test_batches_have_the_shape_of_one_bucket_and_mirror_what_they_should(tmp_path):
    for number in range(30):
        size = ((64, 32), (40, 40), (32, 64))[number % 3]
        picture(tmp_path / f"data/{number}.png", size, colour=(0, 0, 8 * number), left="red")
    words = settings(tmp_path / "data", **{"data.buckets": 3, "data.bucket_multiple": 8, "data.flip": 0.5})
    stage = AutoencoderStage(load_config(AutoencoderConfig, "tiny-autoencoder", words))
    batches = [stage.batch(step, range(4)) for step in range(20)]
    assert {tuple(pixels.shape[2:]) for pixels, *_ in batches} == {(48, 24), (32, 32), (24, 48)}
    assert {tuple(noise.shape[1:]) for _, noise, *_ in batches} == {(4, 12, 6), (4, 8, 8), (4, 6, 12)}
    red_on_the_right = [bool(row[0, 0, -1] == 1) for pixels, *_ in batches for row in pixels]
    assert 20 < sum(red_on_the_right) < 60
    cropped = AutoencoderStage(load_config(AutoencoderConfig, "tiny-autoencoder", [*words, "data.crop=16"]))
    assert {tuple(cropped.batch(step, range(4))[0].shape[2:]) for step in range(9)} == {(16, 16)}
    for more, message in (("data.crop=32", "shortest side, 24"), ("data.bucket_multiple=6", "multiple of 4")):
        with pytest.raises(ConfigError, match=message):
            AutoencoderStage(load_config(AutoencoderConfig, "tiny-autoencoder", [*words, more]))


@pytest.mark.slow
def test_a_diverged_run_says_so_saves_nothing_of_it_and_keeps_the_last_good_checkpoint(
    picture_folder, tmp_path, monkeypatch
):
    values = {"training.steps": 8, "checkpoints.every_steps": 2, "optimizer.warmup_steps": 1}
    forward = AutoencoderObjective.forward
    calls = []

    def diverging(self, *batch):
        calls.append(batch)
        loss, terms = forward(self, *batch)
        return (loss * math.nan if len(calls) > 5 else loss), terms

    monkeypatch.setattr(AutoencoderObjective, "forward", diverging)
    with pytest.raises(
        StudioError, match=r"not finite at step 6.*checkpoint is of step 4.*--set init\.model="
    ):
        run(picture_folder, tmp_path / "run", **values)
    names = [path.name for path in (tmp_path / "run/checkpoints").iterdir()]
    assert sorted(names) == ["latest", "step-2", "step-4"]
    load_autoencoder(tmp_path / "run/model")


@pytest.mark.slow
def test_a_run_that_diverges_before_its_first_checkpoint_is_told_to_begin_anew(
    picture_folder, tmp_path, monkeypatch
):
    forward = AutoencoderObjective.forward

    def diverging(self, *batch):
        loss, terms = forward(self, *batch)
        return loss * math.inf, terms

    monkeypatch.setattr(AutoencoderObjective, "forward", diverging)
    with pytest.raises(StudioError, match=r"no checkpoint yet: begin anew.*lower optimizer\.learning_rate"):
        run(picture_folder, tmp_path / "run", **{"training.steps": 4, "checkpoints.every_steps": 2})


@pytest.mark.slow
def test_a_disk_that_fills_up_ends_a_run_with_a_sentence_and_the_step_it_goes_on_from(
    picture_folder, tmp_path, monkeypatch
):
    sample = AutoencoderStage.sample

    def full(self, averaged, folder, step):
        if step == 4:
            raise OSError(errno.ENOSPC, "No space left on device", str(folder / "step-4.png"))
        return sample(self, averaged, folder, step)

    monkeypatch.setattr(AutoencoderStage, "sample", full)
    values = {"training.steps": 6, "checkpoints.every_steps": 2, "training.sample_every_steps": 2}
    with pytest.raises(StudioError, match=r"disk of .*run is full.*goes on from step 4"):
        run(picture_folder, tmp_path / "run", **values)


@pytest.mark.slow
def test_steps_between_two_lines_of_the_log_all_count_whenever_checkpoints_are_due(picture_folder, tmp_path):
    """A loss that is not finite is seen, too, in the steps before a checkpoint."""
    values = {"training.steps": 6, "optimizer.warmup_steps": 1}
    often = values | {"training.log_every_steps": 3, "checkpoints.every_steps": 2}
    losses = {}
    for name, wanted in (("each", values | {"training.log_every_steps": 1}), ("three", often)):
        run(picture_folder, tmp_path / name, **wanted)
        losses[name] = [line["loss"] for line in lines(tmp_path / name) if "loss" in line]
    means = [sum(losses["each"][first : first + 3]) / 3 for first in (0, 3)]
    assert losses["three"] == pytest.approx(means, rel=1e-5)


def test_an_autoencoder_is_not_shared_out(picture_folder, tmp_path):
    config = load_config(
        AutoencoderConfig, "tiny-autoencoder", [f"data.path={picture_folder}", "training.sharding=fsdp2"]
    )
    with pytest.raises(ConfigError, match="only denoisers are shared out"):
        AutoencoderStage(config)


def test_two_trainings_never_share_a_run_folder(tmp_path):
    config = load_config(AutoencoderConfig, "tiny-autoencoder", [])
    with Run.open(config, tmp_path / "run"), pytest.raises(ConfigError, match="already runs"):
        Run.open(config, tmp_path / "run")
    with Run.open(config, tmp_path / "run"):
        pass


def test_the_same_configuration_goes_on_in_its_own_run_and_another_begins_a_new_one(tmp_path, monkeypatch):
    monkeypatch.setenv("LATENT_STUDIO_RUNS", str(tmp_path))
    config = load_config(AutoencoderConfig, "tiny-autoencoder", [])
    other = load_config(AutoencoderConfig, "tiny-autoencoder", ["training.seed=1"])
    with Run.open(config, None) as first, Run.open(other, None) as second:
        assert first.folder != second.folder
    with Run.open(config, None) as again:
        assert again.folder == first.folder
        again.finish({})
    with Run.open(config, None) as third:
        assert third.folder not in (first.folder, second.folder)
    with pytest.raises(ConfigError, match="another configuration"):
        Run.open(other, first.folder)


@pytest.mark.parametrize(
    "override",
    [
        "data.crop=64",
        "data.crop=12",
        "data.resolution=30",
        "training.batch_size=0",
        "data.resolution=0",
        "data.resolution=36 autoencoder.equivariance=0.1",
        "data.crop=16 autoencoder.adversarial_weight=0.5",
        "autoencoder.equivariance=0.1 autoencoder.adversarial_weight=0.5",
        "autoencoder.adversarial_weight=0.5 autoencoder.discriminator_channels=24",
    ],
)
def test_sizes_that_cannot_work_are_refused_before_training(picture_folder, override):
    words = [*settings(picture_folder), *override.split()]
    with pytest.raises(ConfigError):
        AutoencoderStage(load_config(AutoencoderConfig, "tiny-autoencoder", words))


def test_the_kl_weight_of_the_papers_preset_is_its_own_in_means():
    config = load_config(AutoencoderConfig, "one-gpu-autoencoder", []).autoencoder
    with torch.device("meta"):
        model = build_autoencoder(config.preset, config.regularizer)
    latents_a_pixel_element = model.latent_channels / (3 * model.downsampling_factor**2)
    assert config.kl_weight == pytest.approx(1e-6 * latents_a_pixel_element, rel=1e-3)


@pytest.mark.slow
def test_zero_means_never_for_the_log_and_the_samples(picture_folder, tmp_path):
    run(picture_folder, tmp_path / "run", **{
        "training.steps": 3, "training.log_every_steps": 0, "training.sample_every_steps": 0,
    })  # fmt: skip
    assert [line["step"] for line in lines(tmp_path / "run")] == [3, 3]


def test_the_learning_rate_warms_up_holds_and_ends_near_zero():
    config = load_config(AutoencoderConfig, "tiny-autoencoder", ["optimizer.decay_share=0.25"]).optimizer
    rates = [learning_rate(config, step, 400) for step in range(400)]
    assert rates[0] == pytest.approx(config.learning_rate / config.warmup_steps)
    assert rates[config.warmup_steps] == rates[299] == config.learning_rate
    assert rates[350] == pytest.approx(config.learning_rate * 0.5)
    assert 0 < rates[399] < config.learning_rate * math.pi**2 / 4 / 100**2 * 1.1


@pytest.mark.slow
@pytest.mark.parametrize("regularizer", ["kl", "vq"])
def test_activations_computed_twice_give_the_same_gradients(picture_folder, regularizer):
    gradients = []
    for twice in ("false", "true"):
        words = settings(picture_folder, **{"autoencoder.regularizer": regularizer})
        words.append(f"training.gradient_checkpointing={twice}")
        stage = AutoencoderStage(load_config(AutoencoderConfig, "tiny-autoencoder", words))
        torch.manual_seed(0)
        stage.objective(*stage.batch(0, range(4)))[0].backward()
        gradients.append({name: p.grad for name, p in stage.trained.named_parameters()})
    kept, again = gradients
    assert all(torch.allclose(again[name], kept[name], atol=1e-7) for name in kept if kept[name] is not None)
    assert [name for name in kept if (kept[name] is None) != (again[name] is None)] == []
