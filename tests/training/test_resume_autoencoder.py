import json
import random
import shutil
from argparse import Namespace

import pytest
import torch
from safetensors.torch import load_file

from training import autoencoder as stage1

STEPS = 12
CHANGING = ("samples_per_second", "memory_bytes", "memory_peak_bytes")
PARTS = ("weights", "ema", "optimizer-exp_avg", "optimizer-exp_avg_sq", "optimizer-step")


def train(picture_folder, run_folder, regularizer, precision):
    words = {
        "data.path": picture_folder, "data.crop": 16, "training.batch_size": 4, "training.steps": STEPS,
        "training.log_every_steps": 1, "training.sample_every_steps": 5,
        "checkpoints.every_steps": 1, "checkpoints.keep": "all", "training.precision": precision,
        "autoencoder.regularizer": regularizer, "autoencoder.learn_logvar": "true",
        "autoencoder.revive_after_steps": 3, "autoencoder.adversarial_weight": 0.5,
        "autoencoder.adversarial_start_step": 4, "autoencoder.discriminator_channels": 16,
        "autoencoder.discriminator_layers": 1, "autoencoder.equivariance": 0.4,
    }  # fmt: skip
    words_set = [f"{key}={value}" for key, value in words.items()]
    args = Namespace(config="tiny-autoencoder", set=words_set, run=run_folder, dry_run=False)
    assert stage1.main(args) == 0


def log(run_folder):
    lines = [json.loads(line) for line in (run_folder / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if key not in CHANGING} for line in lines]


@pytest.mark.slow
@pytest.mark.parametrize(("regularizer", "precision"), [("kl", "no"), ("kl", "bf16"), ("vq", "no")])
def test_a_stopped_run_ends_bit_by_bit_as_the_whole_one(
    picture_folder, tmp_path, capsys, regularizer, precision
):
    train(picture_folder, tmp_path / "whole", regularizer, precision)
    for part in PARTS:  # also where bf16 computes
        kept = load_file(tmp_path / f"whole/checkpoints/step-{STEPS}/{part}.safetensors")
        assert {tensor.dtype for tensor in kept.values() if tensor.is_floating_point()} == {torch.float32}
    whole = log(tmp_path / "whole")
    assert {"generator", "adaptive_weight", "logvar"} <= whole[-2].keys()
    if regularizer == "vq":
        weights = load_file(tmp_path / f"whole/checkpoints/step-{STEPS}/weights.safetensors")
        idle_steps = weights["codebook_usage.idle_steps"]
        assert 0 < idle_steps.max() < 3  # who was idle longer was moved
    # Eleven pictures in steps of four: only step 11 ends with an epoch.
    for stop in random.sample([step for step in range(1, STEPS) if step * 4 % 11], 3):
        cut = tmp_path / f"cut-{stop}"
        shutil.copytree(tmp_path / "whole", cut)
        (cut / "finished.json").unlink()
        for checkpoint in (cut / "checkpoints").glob("step-*"):
            if int(checkpoint.name.removeprefix("step-")) > stop:
                shutil.rmtree(checkpoint)
        capsys.readouterr()
        train(picture_folder, cut, regularizer, precision)
        assert f"resumed from step {stop}" in capsys.readouterr().out
        for step in range(stop + 1, STEPS + 1):
            for part in PARTS:
                name = f"checkpoints/step-{step}/{part}.safetensors"
                assert (cut / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), (stop, name)
        assert log(cut) == whole
