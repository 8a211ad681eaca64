import time
from argparse import Namespace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from training import autoencoder as stage1
from training import diffusion as stage2
from training.autoencoder import AutoencoderStage
from training.config import AutoencoderConfig, DiffusionConfig, load_config
from training.data.pictures import load_pictures
from training.diffusion import DiffusionStage
from training.distributed import connect
from training.estimate import estimate, measure_work
from training.loop import Trainer
from training.runs import runs_folder


class Mean(nn.Module):
    """The mean of a network's output as an objective."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x):
        return self.network(x).mean(), {}


def test_the_work_of_a_convolution_and_a_linear_layer_is_what_a_hand_counts() -> None:
    batch, height, width = 2, 6, 5
    network = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.Flatten(), nn.Linear(4 * height * width, 7))
    x = torch.randn(batch, 3, height, width)
    work = measure_work(Mean(network), (x,))
    convolution = 2 * batch * height * width * 4 * 3 * 3 * 3
    linear = 2 * batch * 4 * height * width * 7
    assert work.forward_flops == convolution + linear
    # Backward: the gradients of both weights, and of what enters the linear layer; x needs none.
    assert work.training_flops == 2 * convolution + 3 * linear
    # Kept until then: what enters each layer.
    assert work.activation_bytes == 4 * (x.numel() + batch * 4 * height * width)


def test_the_work_of_attention_counts_both_products_on_a_processor() -> None:
    class Attend(nn.Module):
        def __init__(self):
            super().__init__()
            self.project = nn.Linear(8, 24, bias=False)

        def forward(self, x):
            q, k, v = self.project(x).unflatten(-1, (2, 12)).transpose(1, 2).split(4, dim=-1)
            return F.scaled_dot_product_attention(q, k, v).mean(), {}

    batch, tokens, heads, channels = 2, 5, 2, 4
    work = measure_work(Attend(), (torch.randn(batch, tokens, 8),))
    projection = 2 * batch * tokens * 8 * 24
    product = 2 * batch * heads * tokens * tokens * channels
    assert work.forward_flops == projection + 2 * product
    # The gradients of q, k, v and the scores are four products; the scores are computed again.
    assert work.training_flops == 2 * projection + 2 * product + 5 * product


def config_for(folder: Path, steps: int) -> AutoencoderConfig:
    words = [f"data.path={folder}", f"training.steps={steps}", "training.batch_size=8"]
    return load_config(AutoencoderConfig, "tiny-autoencoder", words)


@pytest.mark.slow
def test_steps_with_and_without_a_discriminator_count_by_their_number(picture_folder) -> None:
    def expected(start: int):
        words = {
            "data.path": picture_folder, "training.steps": 100, "training.batch_size": 4,
            "autoencoder.adversarial_weight": 0.5, "autoencoder.adversarial_start_step": start,
            "autoencoder.discriminator_channels": 16, "autoencoder.discriminator_layers": 1,
        }  # fmt: skip
        config = load_config(AutoencoderConfig, "tiny-autoencoder", [f"{k}={v}" for k, v in words.items()])
        trainer = Trainer(AutoencoderStage(config), config, connect(config.training))
        seconds, taken = 0.0, trainer.step

        def step(number: int):
            nonlocal seconds
            seconds += 5.0 if number >= start else 1.0
            return taken(number)

        trainer.step = step
        return estimate(trainer, clock=lambda: seconds)

    always, never, late = (expected(start) for start in (0, 100, 75))
    assert (always.step_seconds, never.step_seconds, late.step_seconds) == (5, 1, 2)
    assert late.seconds["training"] == 200
    for name in ("forward_flops", "training_flops"):
        without, beside = getattr(never, name), getattr(always, name)
        assert beside > 1.1 * without
        assert getattr(late, name) == pytest.approx(0.75 * without + 0.25 * beside, rel=1e-9)
    assert late.memory_bytes == always.memory_bytes
    assert never.memory_bytes["activations"] < late.memory_bytes["activations"]


@pytest.mark.slow
def test_the_expected_time_is_that_of_the_run(picture_folder, tmp_path) -> None:
    config = config_for(picture_folder, steps=120)
    trainer = Trainer(AutoencoderStage(config), config, connect(config.training))
    expected = estimate(trainer, clock=time.process_time)  # which other programs do not change
    begin = time.process_time()
    words = [f"data.path={picture_folder}", "training.steps=120", "training.batch_size=8"]
    stage1.main(Namespace(config="tiny-autoencoder", set=words, run=tmp_path / "run", dry_run=False))
    taken = time.process_time() - begin
    assert 0.5 < expected.total_seconds / taken < 2


@pytest.mark.slow
def test_the_expected_time_of_stage_2_is_that_of_the_run_cache_included(
    picture_folder, tiny_model_folder, tmp_path, monkeypatch
) -> None:
    monkeypatch.setenv("LATENT_STUDIO_RUNS", str(tmp_path / "runs"))
    words = [
        f"data.path={picture_folder}",
        f"model.autoencoder={tiny_model_folder}",
        f"model.text_encoder={tiny_model_folder}",
        "training.steps=150",
    ]
    config = load_config(DiffusionConfig, "tiny-diffusion", words)
    stage = DiffusionStage(config, fill_cache=False)
    expected = estimate(Trainer(stage, config, connect(config.training)), clock=time.process_time)
    begin = time.process_time()
    stage2.main(Namespace(config="tiny-diffusion", set=words, run=tmp_path / "run", dry_run=False))
    assert 0.5 < expected.total_seconds / (time.process_time() - begin) < 2
    on_disk = [file for file in (tmp_path / "runs/cache").rglob("*.bin")]
    assert 0.7 < expected.disk_bytes["cache"] / sum(file.stat().st_size for file in on_disk) < 1.3
    checkpoint = sum(file.stat().st_size for file in (tmp_path / "run/checkpoints/step-150").iterdir())
    assert expected.disk_bytes["2 checkpoints"] / 2 == pytest.approx(checkpoint, rel=0.2)
    model = sum(file.stat().st_size for file in (tmp_path / "run/model").rglob("*.safetensors"))
    assert expected.disk_bytes["the model"] == pytest.approx(model, rel=0.2)


@pytest.mark.slow
def test_a_dry_run_of_stage_2_leaves_nothing_and_needs_no_second_look_at_the_pictures(
    picture_folder, tiny_model_folder, tmp_path, monkeypatch, capsys
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LATENT_STUDIO_RUNS", str(tmp_path / "runs"))
    parts = [f"model.{part}={tiny_model_folder}" for part in ("autoencoder", "text_encoder")]
    words = [f"data.path={picture_folder}", *parts]
    args = {"config": "tiny-diffusion", "set": words, "run": None}
    stage2.main(Namespace(**args, dry_run=True))
    assert "400 steps of 16 pictures" in capsys.readouterr().out
    assert list(tmp_path.iterdir()) == []
    assert runs_folder() == tmp_path / "runs"

    load_pictures(load_config(DiffusionConfig, "tiny-diffusion", words).data)  # makes the index
    before = {file: file.stat().st_mtime_ns for file in tmp_path.rglob("*")}
    monkeypatch.setattr("training.data.index._build", None)
    stage2.main(Namespace(**args, dry_run=True))
    assert {file: file.stat().st_mtime_ns for file in tmp_path.rglob("*")} == before


@pytest.mark.slow
def test_a_dry_run_tells_what_the_training_takes_and_writes_nothing(
    picture_folder, tmp_path, monkeypatch, capsys
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LATENT_STUDIO_RUNS", str(tmp_path / "runs"))
    words = [f"data.path={picture_folder}", "training.steps=100", "training.batch_size=8"]
    stage1.main(Namespace(config="tiny-autoencoder", set=words, run=None, dry_run=True))
    assert list(tmp_path.iterdir()) == []
    told = capsys.readouterr().out
    trained = sum(p.numel() for p in AutoencoderStage(config_for(picture_folder, 100)).trained.parameters())
    assert f"{trained:,} trained of {trained:,}" in told
    assert "100 steps of 8 pictures, 72.7 passes over 11" in told
