import json
import math
import shutil
from argparse import Namespace

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.ndimage import gaussian_filter

from evaluation import autoencoder as evaluation
from evaluation.autoencoder import Sums, Trip, bounding_box, ssim
from models.autoencoder import build_autoencoder
from models.errors import RequestError
from tests.models.test_clip_vision import save_clip
from training.measures import psnr


@pytest.fixture
def dataset(tmp_path):
    folder, rows = tmp_path / "data", []
    folder.mkdir()
    for number in range(6):
        picture = Image.new("RGB", (32, 32), (40 * number, 90, 90))
        picture.paste((250, 200 - 30 * number, 10), (8, 8, 20, 24))
        picture.save(folder / f"{number}.png")
        split = "held-out pair" if number % 2 else "train"
        rows.append(json.dumps({"file_name": f"{number}.png", "text": "a dog", "split": split}))
    (folder / "metadata.jsonl").write_text("\n".join(rows))
    return folder


def test_psnr_is_the_textbook_formula_on_eight_bit_values():
    rng = np.random.default_rng(0)
    first, second = rng.integers(0, 256, (2, 3, 16, 16)), rng.integers(0, 256, (2, 3, 16, 16))
    mse = ((first - second) ** 2).mean(axis=(1, 2, 3))
    expected = 10 * np.log10(255**2 / mse)
    ours = psnr(*(torch.tensor(x) / 127.5 - 1 for x in (first, second)))
    assert np.allclose(ours.numpy(), expected, atol=1e-4)


def test_values_outside_the_range_are_clamped_as_a_picture_would_be():
    target = torch.ones(1, 3, 4, 4)
    assert psnr(target * 5, target) == 100  # the cap of equal pictures


def test_ssim_is_the_formula_of_its_paper():
    rng = np.random.default_rng(0)
    first, second = rng.random((2, 1, 3, 24, 24))

    def blur(x):  # a Gaussian of 11 pixels and deviation 1.5 within each channel
        return gaussian_filter(x, (0, 0, 1.5, 1.5), truncate=5 / 1.5, mode="mirror")

    m, n = blur(first), blur(second)
    v, w, both = blur(first**2) - m * m, blur(second**2) - n * n, blur(first * second) - m * n
    index = (2 * m * n + 0.01**2) * (2 * both + 0.03**2) / ((m * m + n * n + 0.01**2) * (v + w + 0.03**2))
    ours = ssim(*(torch.tensor(x).float() * 2 - 1 for x in (first, second)))
    assert float(ours) == pytest.approx(index.mean(), abs=1e-4)


def test_the_box_holds_the_thing_and_nothing_more():
    picture = torch.ones(3, 20, 30)
    picture[:, 4:9, 7:21] = 0
    assert bounding_box(picture) == (slice(4, 9), slice(7, 21))
    assert bounding_box(torch.ones(3, 8, 8)) == (slice(None), slice(None))


def test_channel_statistics_and_codes_are_those_of_all_pictures_together():
    generator = torch.Generator().manual_seed(0)
    latents = torch.randn(5, 2, 3, 3, generator=generator) * 3 + 1
    numbers = torch.tensor([0, 0, 2]).expand(5, 3, 3)
    sums, pixels = Sums(), torch.zeros(3, 12, 12)
    for one, codes in zip(latents, numbers, strict=True):
        sums.add(Trip(pixels, one, pixels, codes), codes=4)
    result = sums.result()
    assert result["latent_mean"] == pytest.approx(latents.mean((0, 2, 3)).tolist(), abs=1e-3)
    assert result["latent_std"] == pytest.approx(latents.std((0, 2, 3), correction=0).tolist(), abs=1e-3)
    assert result["codebook_usage"] == 0.5
    entropy = -(2 / 3) * math.log(2 / 3) - (1 / 3) * math.log(1 / 3)
    assert result["codebook_perplexity"] == pytest.approx(math.exp(entropy), abs=0.01)


def test_a_channel_that_never_changes_has_no_deviation():
    sums, pixels = Sums(), torch.zeros(3, 12, 12)
    for _ in range(7):
        sums.add(Trip(pixels, torch.full((2, 3, 3), 0.1), pixels, None), codes=0)
    assert sums.result()["latent_std"] == [0, 0]


@pytest.mark.slow
def test_the_command_measures_the_held_out_pictures_alone_and_keeps_what_it_found(
    tiny_model_folder, dataset, tmp_path, capsys
):
    model, sheet = tmp_path / "model", tmp_path / "sheet.png"
    shutil.copytree(tiny_model_folder, model)
    (model / "README.md").write_text(
        "# Tiny\n\n<!-- measured autoencoder -->\nold\n<!-- /measured autoencoder -->\n\nend\n"
    )
    args = Namespace(
        model=model, data=dataset, resolution=32, device="cpu", sheet=sheet, json=True, features=None
    )
    assert evaluation.main(args) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["pictures"] == 3
    assert 0 < result["psnr_db_interval"][0] < result["psnr_db"] < result["psnr_db_interval"][1] < 40
    assert result["ssim"] <= 1
    assert result["perceptual"] > 0
    assert result["numbers_per_pixel"] == 4 * 8 * 8 / 32**2
    assert json.loads((model / "metrics.json").read_text()) == {"autoencoder": result}
    assert Image.open(sheet).size == (9 * 32, 32)
    card = (model / "README.md").read_text()
    assert card.startswith("# Tiny\n\n<!-- measured autoencoder -->\n3 held-out pictures at 32 px")
    assert card.endswith("\n<!-- /measured autoencoder -->\n\nend\n")
    assert "old" not in card
    assert "| perceptual distance (efficientnet-lite0) |" in card

    save_clip(tmp_path / "clip-vit-tiny")
    args.features = tmp_path / "clip-vit-tiny"
    assert evaluation.main(args) == 0
    by_clip = json.loads(capsys.readouterr().out)
    assert by_clip["features"] == "clip-vit-tiny"
    assert by_clip["kernel_distance"] != result["kernel_distance"]
    assert "perceptual" not in by_clip  # which no CLIP measures
    kept = json.loads((model / "metrics.json").read_text())
    assert kept == {"autoencoder": {**result, "other_features": {"clip-vit-tiny": by_clip}}}
    told = evaluation.lines(by_clip, 32)
    assert next(line for line in told if "clip-vit-tiny" in line).startswith(
        "| kernel distance (clip-vit-tiny)"
    )
    assert not any("perceptual" in line for line in told)


def test_codes_are_counted_where_there_is_a_codebook(dataset):
    pictures = evaluation.load_pictures(evaluation.Data(path=str(dataset), resolution=32))[1]
    result = evaluation.measure(build_autoencoder("tiny", "vq"), pictures, None)
    assert 0 < result["codebook_usage"] <= 1
    assert result["codebook_perplexity"] >= 1


def test_a_sheet_that_cannot_be_written_is_refused_before_the_work(tiny_model_folder, dataset, tmp_path):
    args = Namespace(
        model=tiny_model_folder, data=dataset, resolution=32, device="cpu",
        sheet=tmp_path / "nowhere" / "sheet.png", json=True, features=None,
    )  # fmt: skip
    with pytest.raises(RequestError, match="nowhere"):
        evaluation.main(args)
