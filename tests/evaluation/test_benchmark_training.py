import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from evaluation.benchmark_training import PlainLoop, draw_pictures, measure
from training.config import DiffusionConfig, load_config
from training.diffusion import DiffusionStage

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def config(tmp_path, tiny_model_folder):
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    draw_pictures(pictures, 32)
    words = [f"data.path={pictures}"]
    words += [f"model.{part}={tiny_model_folder}" for part in ("autoencoder", "text_encoder")]
    return load_config(DiffusionConfig, "tiny-diffusion", words)


@pytest.mark.slow
def test_the_plain_loop_has_the_loss_of_ours_on_the_same_weights(config):
    stage, plain = DiffusionStage(config), PlainLoop(config)
    for one in (stage.trained, plain.unet):
        torch.manual_seed(0)
        for parameter in one.parameters():  # an untrained denoiser answers zero, whatever it is asked
            torch.nn.init.normal_(parameter, std=0.05)
    *inputs, shown = stage.batch(0, range(4))
    assert shown is None  # no picture is shown to a model of words
    assert torch.allclose(stage.objective(*inputs, shown)[0], plain.loss(*inputs), rtol=1e-5)


@pytest.mark.slow
def test_a_plain_step_learns_and_averages(config):
    plain = PlainLoop(config)
    before = plain.unet.conv_out.bias.detach().clone()
    plain.live([0, 1])
    plain.cached([2, 3])
    moved = plain.unet.conv_out.bias.detach() - before
    assert moved.abs().min() > 0
    name = [name for name, _ in plain.unet.named_parameters()].index("conv_out.bias")
    assert torch.all((plain.averages[name] - before).abs() < moved.abs())


@pytest.mark.slow
def test_both_loops_are_measured_in_turns(config):
    # So large that a clock which moves in steps of milliseconds moves in each step.
    result = measure(replace(config, training=replace(config.training, batch_size=64)), rounds=1)
    ours = result["images_per_second"]
    for kind in ("plain", "cached"):
        assert ours / result[f"{kind}_images_per_second"] == pytest.approx(
            result[f"speedup_{kind}"], rel=0.01
        )


@pytest.mark.exhaustive
def test_on_a_fresh_clone_training_is_as_fast_as_promised():
    command = [sys.executable, str(ROOT / "launch.py"), "benchmark", "training", "--json"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    result = json.loads(subprocess.run(command, env=environment, capture_output=True, check=True).stdout)
    if not result["avx512_bf16"]:
        measured = ", ".join(f"{key} {value}" for key, value in result.items() if key.startswith("speedup"))
        pytest.skip(f"this processor has no avx512_bf16, for which the promise is; measured: {measured}")
    assert result["speedup_plain"] >= 3
    assert result["speedup_cached"] >= 1.3
