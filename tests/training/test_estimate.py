import time
from argparse import Namespace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from training import autoencoder as stage1
from training.autoencoder import AutoencoderStage
from training.config import AutoencoderConfig, load_config
from training.distributed import connect
from training.estimate import estimate, measure_work
from training.loop import Trainer


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
def test_a_dry_run_tells_what_the_training_takes_and_writes_nothing(
    picture_folder, tmp_path, monkeypatch, capsys
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LATENT_STUDIO_RUNS", str(tmp_path / "runs"))
    words = [f"data.path={picture_folder}", "training.steps=100", "training.batch_size=8"]
    stage1.main(Namespace(config="tiny-autoencoder", set=words, run=None, dry_run=True))
    told = capsys.readouterr().out
    trained = sum(p.numel() for p in AutoencoderStage(config_for(picture_folder, 100)).trained.parameters())
    assert f"{trained:,} trained of {trained:,}" in told
    assert "100 steps of 8 pictures, 72.7 passes over 11" in told
    assert list(tmp_path.iterdir()) == []
