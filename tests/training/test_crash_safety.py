import os
import re
import subprocess
import sys

import pytest

from tests.training.processes import ROOT

# Where in a run the first process may die, and how: before a file event, with a torn file, by SIGTERM, or
# with what was not synced to the disk lost.
MODES = "before,torn,term,unsynced"
VQ_AND_DISCRIMINATOR = {
    "autoencoder.regularizer": "vq",
    "autoencoder.adversarial_weight": 0.5,
    "autoencoder.discriminator_channels": 16,
    "autoencoder.discriminator_layers": 2,
}
RESULTS = {"autoencoder": "vae", "diffusion": "unet"}


def crash_everywhere(stage, ranks, points, pictures, model, work, **settings):
    """The verdict counts of ckpt-chaos on a run of four steps and four checkpoints, and its whole report."""
    parts = {"model.autoencoder": model, "model.text_encoder": model} if stage == "diffusion" else {}
    settings = {
        "data.path": pictures,
        "training.steps": 4,
        "training.batch_size": 8,
        "training.sample_every_steps": 0,
        "checkpoints.every_steps": 1,
        "checkpoints.keep": "all",
        **parts,
        **settings,
    }
    words = [word for key, value in settings.items() for word in ("--set", f"{key}={value}")]
    command = [
        *(sys.executable, "-m", "ckpt_chaos", "run", "--work", str(work / "chaos"), "--modes", MODES),
        *("--max-points", str(points), "--fail-on", "HARD_FAIL,SILENT_DIVERGENCE,LOST_WORK"),
        *("--step-regex", r"resumed from step (\d+)", "--checkpoint-glob", "{out}/checkpoints/step-*"),
        *("--result-file", f"{{out}}/model/{RESULTS[stage]}/diffusion_pytorch_model.safetensors"),
        *("--ranks", str(ranks), "--"),  # the first process dies; the others write nothing
        *(sys.executable, str(ROOT / "launch.py"), "train", stage, "--config", f"tiny-{stage}"),
        *("--run", "{out}", *words),
    ]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "LATENT_STUDIO_RUNS": str(work / "runs")}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    report = done.stdout + done.stderr
    counts = {name: int(count) for name, count in re.findall(r"^([A-Z_]+): (\d+)$", report, re.MULTILINE)}
    assert done.returncode == 0, report
    return counts, report


@pytest.mark.slow
@pytest.mark.parametrize(
    ("stage", "ranks", "points"), [("autoencoder", 1, 12), ("diffusion", 2, 8)], ids=["one", "two processes"]
)
def test_a_run_that_dies_anywhere_goes_on_from_its_newest_checkpoint(
    picture_folder, tiny_model_folder, tmp_path, stage, ranks, points
):
    counts, report = crash_everywhere(stage, ranks, points, picture_folder, tiny_model_folder, tmp_path)
    assert counts == {"PASS": points + 1}, report  # and the control, which is not killed


@pytest.mark.exhaustive
@pytest.mark.parametrize("ranks", [1, 2])
@pytest.mark.parametrize(
    ("stage", "settings"),
    [
        ("autoencoder", {}),
        ("autoencoder", VQ_AND_DISCRIMINATOR),
        ("diffusion", {}),
    ],
    ids=["kl", "vq with a discriminator", "diffusion"],
)
def test_a_run_that_dies_at_any_file_event_goes_on_from_its_newest_checkpoint(
    picture_folder, tiny_model_folder, tmp_path, stage, settings, ranks
):
    counts, report = crash_everywhere(
        stage, ranks, 10_000, picture_folder, tiny_model_folder, tmp_path, **settings
    )
    print(report)
    assert set(counts) == {"PASS"}, report
    assert counts["PASS"] > 300
