import json
from argparse import Namespace

import numpy as np
import torch
from PIL import Image

from evaluation import autoencoder as evaluation
from evaluation.autoencoder import bounding_box
from training.measures import psnr


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


def test_the_box_holds_the_thing_and_nothing_more():
    picture = torch.ones(3, 20, 30)
    picture[:, 4:9, 7:21] = 0
    assert bounding_box(picture) == (slice(4, 9), slice(7, 21))
    assert bounding_box(torch.ones(3, 8, 8)) == (slice(None), slice(None))


def test_the_command_measures_the_held_out_pictures_alone(tiny_model_folder, tmp_path, capsys):
    rows = []
    for number in range(6):
        Image.new("RGB", (32, 32), (40 * number, 90, 90)).save(tmp_path / f"{number}.png")
        split = "held-out pair" if number % 2 else "train"
        rows.append(json.dumps({"file_name": f"{number}.png", "text": "a dog", "split": split}))
    (tmp_path / "metadata.jsonl").write_text("\n".join(rows))
    args = Namespace(model=tiny_model_folder, data=tmp_path, resolution=32, device="cpu", json=True)
    assert evaluation.main(args) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["pictures"] == 3
    assert 0 < result["psnr_db"] < 40
