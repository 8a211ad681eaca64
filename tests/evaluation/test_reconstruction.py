from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from evaluation.reconstruction import Comparison, autoencoder_folders, compare, fitted, reconstruct
from models.autoencoder import build_autoencoder
from models.folder import save_part
from pipelines.result import StepEvent


def test_pictures_are_cut_to_what_every_autoencoder_takes() -> None:
    assert fitted(Image.new("L", (100, 70))).size == (96, 64)
    assert fitted(Image.new("RGBA", (2000, 1000))).size == (512, 256)
    assert fitted(Image.new("RGB", (20, 900))).size == (16, 512)


def test_kl_keeps_its_channels_and_vq_one_number_a_place() -> None:
    image = Image.new("RGB", (32, 32), (200, 30, 60))
    kl, vq = (reconstruct(build_autoencoder("tiny", kind), image, kind) for kind in ("kl", "vq"))
    assert (kl.factor, kl.channels, kl.numbers, kl.bits) == (4, 4, 0.25, None)
    assert vq.numbers == 1 / 16
    assert vq.bits == pytest.approx(6 / 16)  # 64 codes
    error = np.mean(((np.asarray(kl.image).astype(float) - np.asarray(image)) / 255) ** 2)
    assert kl.psnr_db == pytest.approx(-10 * np.log10(error), abs=0.1)
    assert -1 <= kl.ssim <= 1


def test_models_come_first_then_what_trainings_exported(tiny_model_folder: Path, tmp_path: Path) -> None:
    exported = tmp_path / "run" / "model"
    save_part(build_autoencoder("tiny", "vq").vae, exported / "vae")
    (tmp_path / "half" / "model").mkdir(parents=True)
    folders = autoencoder_folders([tiny_model_folder, tiny_model_folder], tmp_path)
    assert folders == [tiny_model_folder, exported]
    *events, comparison = compare(Image.new("RGB", (40, 40)), folders)
    assert isinstance(comparison, Comparison)
    assert [type(event) for event in events] == [StepEvent, StepEvent]
    assert [one.name for one in comparison.reconstructions] == [tiny_model_folder.name, "run"]
    assert {one.image.size for one in comparison.reconstructions} == {(32, 32)}
