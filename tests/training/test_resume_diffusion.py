import json
import random
import shutil
from argparse import Namespace

import pytest
import torch

from training import diffusion as stage2
from training import distill
from training.config import DiffusionConfig, load_config

pytestmark = pytest.mark.slow
STEPS = 12  # of 4 pictures: more than four epochs of the eleven pictures
FILES = ("weights", "ema", "optimizer-exp_avg", "optimizer-exp_avg_sq", "optimizer-step")


def numbers(run):
    """What every step logged, but for the time it took and the memory."""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    changing = ("samples_per_second", "bytes")
    return [{k: v for k, v in line.items() if not k.endswith(changing)} for line in lines]


@pytest.mark.parametrize(
    "more",
    [
        {"model.dropout": 0.2},
        {"training.precision": "bf16"},
        {"training.accumulate": 2},
        {"model.train_text_encoder": "scratch", "model.image_condition": "inpaint"},
        {"distill.substeps": 2},
    ],
    ids=["dropout", "bf16", "micro-batches", "joint, with holes", "a student"],
)
def test_a_run_stopped_at_any_step_goes_on_to_the_same_bits(
    picture_folder, tiny_model_folder, tmp_path, monkeypatch, capsys, more
):
    monkeypatch.setenv("LATENT_STUDIO_RUNS", str(tmp_path / "runs"))
    student = "distill.substeps" in more
    names = ["init.model"] if student else ["model.autoencoder", "model.text_encoder"]
    settings = {
        **dict.fromkeys(names, tiny_model_folder),
        "data.path": picture_folder,
        "training.batch_size": 4,
        "training.steps": STEPS,
        "training.log_every_steps": 1,
        "training.sample_every_steps": 0,
        "checkpoints.every_steps": 1,
        "checkpoints.keep": "all",
        **more,
    }
    words = [f"{key}={value}" for key, value in settings.items()]

    def train(run):
        command, preset = (distill, "tiny-distill") if student else (stage2, "tiny-diffusion")
        command.main(Namespace(config=preset, set=words, run=run, dry_run=False))

    whole = tmp_path / "whole"
    train(whole)
    stops = random.sample([step for step in range(1, STEPS) if step * 4 % 11], 3)
    print("stopped at", stops)
    for stop in stops:
        cut = tmp_path / f"cut-{stop}"
        shutil.copytree(whole, cut, symlinks=True)
        (cut / "finished.json").unlink()
        for step in range(stop + 1, STEPS + 1):
            shutil.rmtree(cut / f"checkpoints/step-{step}")
        capsys.readouterr()
        train(cut)
        assert f"resumed from step {stop}\n" in capsys.readouterr().out
        for name in FILES:
            parts = [(run / f"checkpoints/step-{STEPS}/{name}.safetensors") for run in (whole, cut)]
            assert parts[0].read_bytes() == parts[1].read_bytes(), (stop, name)
        assert numbers(cut) == numbers(whole)


def test_gradient_checkpointing_changes_no_gradient(picture_folder, tiny_model_folder, tmp_path, monkeypatch):
    monkeypatch.setenv("LATENT_STUDIO_RUNS", str(tmp_path / "runs"))
    gradients = []
    for value in ("false", "true"):
        words = [
            f"data.path={picture_folder}",
            f"model.autoencoder={tiny_model_folder}",
            f"model.text_encoder={tiny_model_folder}",
            f"training.gradient_checkpointing={value}",
        ]
        stage = stage2.DiffusionStage(load_config(DiffusionConfig, "tiny-diffusion", words))
        torch.manual_seed(0)
        for parameter in stage.trained.parameters():
            torch.nn.init.normal_(parameter, std=0.05)
        stage.trained.train()
        loss, _ = stage.objective(*stage.batch(0, range(4)))
        loss.backward()
        gradients.append({name: p.grad for name, p in stage.trained.named_parameters()})
    plain, checkpointed = gradients
    assert all(torch.allclose(plain[name], checkpointed[name], rtol=1e-5, atol=1e-7) for name in plain)
