"""Trainings on NVIDIA GPUs: precisions, memory saved, several devices."""

import json
import shutil
import sys
from argparse import Namespace

import pytest
import torch
from accelerate.state import AcceleratorState
from safetensors.torch import load_file

from tests.training.processes import ROOT, finish, start
from training import autoencoder as stage1
from training import diffusion as stage2
from training.config import DiffusionConfig, load_config
from training.diffusion import DiffusionStage

pytestmark = [pytest.mark.cuda, pytest.mark.slow]
STEPS = 6
TOLERANCE = 1e-4  # of weights: a GPU sums in an order of its own, and convolutions may round to TF32


def settings(pictures, model, **more):
    base = {
        "data.path": pictures, "model.autoencoder": model, "model.text_encoder": model,
        "training.batch_size": 4, "training.steps": STEPS, "training.log_every_steps": 1,
        "training.sample_every_steps": 0, "checkpoints.every_steps": 1, "checkpoints.keep": "all",
        "optimizer.epsilon": 1e-3,  # below it gradients are rounding, of which Adam would make whole steps
    }  # fmt: skip
    return [f"{key}={value}" for key, value in (base | more).items()]


def train(run, words):
    AcceleratorState._reset_state(reset_partial_state=True)  # its precision is that of the run before
    stage2.main(Namespace(config="tiny-diffusion", set=words, run=run, dry_run=False))


def last(run, part):
    return load_file(run / f"checkpoints/step-{STEPS}/{part}.safetensors")


def losses(run):
    lines = map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
    return [line["loss"] for line in lines if "loss" in line]


def difference(one, other):
    """The largest difference of the last weights of two runs."""
    weights = last(other, "weights")
    return max(float((tensor - weights[name]).abs().max()) for name, tensor in last(one, "weights").items())


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_half_precision_learns_over_float32_weights_and_goes_on_where_it_stopped(
    picture_folder, tiny_model_folder, tmp_path, capsys, precision
):
    words = settings(picture_folder, tiny_model_folder, **{"training.precision": precision})
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    train(whole, words)
    for part in ("weights", "ema", "optimizer-exp_avg", "optimizer-exp_avg_sq"):
        assert {tensor.dtype for tensor in last(whole, part).values()} == {torch.float32}
    train(tmp_path / "exact", settings(picture_folder, tiny_model_folder))
    assert losses(whole) == pytest.approx(losses(tmp_path / "exact"), rel=0.05)
    shutil.copytree(whole, cut, symlinks=True)
    (cut / "finished.json").unlink()
    for step in range(4, STEPS + 1):
        shutil.rmtree(cut / f"checkpoints/step-{step}")
    capsys.readouterr()
    train(cut, words)
    assert "resumed from step 3" in capsys.readouterr().out
    states = [json.loads((run / f"checkpoints/step-{STEPS}/state.json").read_text()) for run in (whole, cut)]
    assert states[0] == states[1]
    assert ("loss_scaler" in states[0]) == (precision == "fp16")
    assert difference(whole, cut) < TOLERANCE


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_an_autoencoder_and_its_discriminator_learn_in_half_precision(picture_folder, tmp_path, precision):
    words = {
        "data.path": picture_folder, "training.batch_size": 8, "training.steps": 60,
        "training.precision": precision, "training.log_every_steps": 5,
        "autoencoder.adversarial_weight": 0.5, "autoencoder.adversarial_start_step": 10,
        "autoencoder.discriminator_channels": 16, "autoencoder.discriminator_layers": 1,
    }  # fmt: skip
    set_words = [f"{key}={value}" for key, value in words.items()]
    run = tmp_path / "run"
    stage1.main(Namespace(config="tiny-autoencoder", set=set_words, run=run, dry_run=False))
    lines = list(map(json.loads, (run / "metrics.jsonl").read_text().splitlines()))
    distances = [line["reconstruction"] for line in lines if "reconstruction" in line]
    assert distances[-1] < 0.7 * distances[0]
    assert all(0 <= line["adaptive_weight"] <= 10 for line in lines if "adaptive_weight" in line)


def test_gradient_checkpointing_changes_no_gradient_on_a_gpu(picture_folder, tiny_model_folder):
    gradients = []
    for value in ("false", "true"):
        more = {"training.gradient_checkpointing": value, "model.dropout": 0.2}
        words = settings(picture_folder, tiny_model_folder, **more)
        stage = DiffusionStage(load_config(DiffusionConfig, "tiny-diffusion", words))
        torch.manual_seed(0)
        for parameter in stage.trained.parameters():
            torch.nn.init.normal_(parameter, std=0.05)
        stage.objective.to("cuda").train()
        torch.manual_seed(1)  # of dropout, which is drawn again for what is computed again
        stage.objective(*stage.batch(0, range(4)))[0].backward()
        gradients.append({name: p.grad.cpu() for name, p in stage.trained.named_parameters()})
    plain, checkpointed = gradients
    for name, gradient in plain.items():
        torch.testing.assert_close(checkpointed[name], gradient, rtol=1e-3, atol=1e-5, msg=name)


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two GPUs")
@pytest.mark.parametrize("sharding", ["ddp", "fsdp2"])
def test_two_gpus_train_the_weights_of_one(picture_folder, tiny_model_folder, tmp_path, sharding):
    runs = [tmp_path / "one", tmp_path / "two"]
    for ranks, run in enumerate(runs, 1):
        words = settings(picture_folder, tiny_model_folder, **{"training.sharding": sharding})
        chosen = [word for setting in words for word in ("--set", setting)]
        command = [sys.executable, str(ROOT / "launch.py"), "train", "diffusion"]
        command += ["--config", "tiny-diffusion", "--run", str(run), *chosen]
        codes, said = finish(start(command, ranks, tmp_path / "runs"))
        assert codes == [0] * ranks, said
    assert difference(*runs) < TOLERANCE
    assert losses(runs[1]) == pytest.approx(losses(runs[0]), rel=1e-3)
