"""What the model in the repository promises to a newcomer."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image, ImageStat

from evaluation import autoencoder
from models.folder import load_autoencoder, model_id
from training.config import Data
from training.data import starter
from training.data.pictures import load_pictures

ROOT = Path(__file__).parents[1]
MODEL = ROOT / "checkpoints/starter"


def generate(output: Path, seed: int) -> Path:
    command = [sys.executable, "launch.py", "generate", "a red apple", "--seed", str(seed)]
    done = subprocess.run(
        [*command, "--output-dir", str(output)], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return Path(done.stdout.strip())


@pytest.mark.slow
def test_a_red_apple_is_a_red_thing_on_white_and_the_same_pixels_again(tmp_path):
    first, again, other = (
        generate(tmp_path / name, seed) for name, seed in (("first", 7), ("again", 7), ("other", 8))
    )
    image = Image.open(first).convert("RGB")
    assert image.size == (128, 128)
    assert image.tobytes() == Image.open(again).convert("RGB").tobytes()
    assert image.tobytes() != Image.open(other).convert("RGB").tobytes()
    red, green, blue = ImageStat.Stat(image.crop((44, 56, 84, 96))).mean
    assert red > 150
    assert red > 2 * max(green, blue)
    assert min(image.getpixel((2, 2))) > 230


def test_the_folder_is_small_enough_for_a_clone():
    sizes = {path: path.stat().st_size for path in MODEL.rglob("*") if path.is_file()}
    assert sum(sizes.values()) < 115_000_000
    assert not [path for path in sizes if os.path.splitext(path)[1] in (".bin", ".pt", ".ckpt", ".pkl")]


def test_every_style_set_that_it_was_trained_on_is_credited():
    card, notice = (MODEL / "README.md").read_text(), (ROOT / "NOTICE").read_text()
    for package in starter.STYLES:
        owner = package.author.split(",")[0].split()[0]
        assert owner in card
        assert owner in notice
        assert package.licence.replace("-", " ").split()[0] in card


def test_what_was_measured_of_the_starter_is_whole_with_intervals_and_of_its_weights():
    measured = json.loads((MODEL / "metrics.json").read_text())
    assert measured["diffusion"]["model_id"] == model_id(MODEL)
    kinds = measured["diffusion"]["retrieval"]
    wanted = [
        *((measured["autoencoder"], name) for name in ("psnr_db", "psnr_box_db", "ssim")),
        *((kinds[kind], name) for kind in kinds for name in ("top1", "top5", "ceiling_top1", "ceiling_top5")),
        (measured["diffusion"], "kernel_distance"),
        *((measured["instant"], name) for name in ("kernel_distance_ratio", "retrieval_top5_drop")),
    ]
    for part, name in wanted:
        low, high = part[f"{name}_interval"]
        assert low <= part[name] <= high, name
    assert kinds.keys() == {"train", "heldout", "paraphrase"}


@pytest.mark.slow
def test_held_out_pictures_survive_the_latent(starter_dataset, tmp_path, monkeypatch):
    monkeypatch.setenv("LATENT_STUDIO_RUNS", str(tmp_path / "runs"))
    _, held_out, _ = load_pictures(Data(path=str(starter_dataset), resolution=128))
    result = autoencoder.measure(load_autoencoder(MODEL), held_out, None)
    assert result["pictures"] > 150
    assert result["psnr_db"] >= 31
    assert result["psnr_box_db"] >= 28
    assert result["ssim"] >= 0.95
    assert result["latent_mean"] == pytest.approx([0] * 8, abs=0.2)
    assert result["latent_std"] == pytest.approx([1] * 8, abs=0.2)
