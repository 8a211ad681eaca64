import json
from argparse import Namespace

import pytest
import torch
from PIL import Image

from evaluation import diffusion
from evaluation.starter_data import Thing
from models.errors import DataError


@pytest.fixture(autouse=True)
def own_runs(tmp_path, monkeypatch):
    monkeypatch.setenv("LATENT_STUDIO_RUNS", str(tmp_path / "runs"))


@pytest.mark.slow
def test_the_command_draws_training_captions_and_compares_with_real_pictures(
    tiny_model_folder, tmp_path, capsys
):
    rows = []
    for number, concept in enumerate(("apple", "dog", "cat", "red apple")):
        for style in ("noto", "flat", "glossy"):
            name = f"{number}-{style}.png"
            Image.new("RGB", (32, 32), (60 * number, 90, len(style) * 20)).save(tmp_path / name)
            rows.append(
                {
                    "file_name": name,
                    "text": f"{concept}, {style} style",
                    "concepts": [concept],
                    "style": style,
                    "background": "white",
                    "split": "held-out pair" if style == "glossy" else "train",
                }
            )
    (tmp_path / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)))
    grid = tmp_path / "grid.png"
    args = Namespace(
        model=tiny_model_folder, data=tmp_path, device="cpu", count=3, seed=0, steps=2,
        guidance_scale=None, grid=grid, json=True,
    )  # fmt: skip
    assert diffusion.main(args) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["captions"] == 3
    assert 0 < result["held_out_real_in_5"] <= 1
    assert Image.open(grid).size == (8 * 32, 32)


@pytest.mark.slow
def test_features_of_real_pictures_are_kept_until_a_picture_changes(tmp_path):
    things = []
    for name in ("left", "right"):
        Image.new("RGB", (32, 32), "red").save(tmp_path / f"{name}.png")
        things.append(Thing(tmp_path / f"{name}.png", name, name, "flat", "train"))
    first = diffusion.embed_files(things, 32)
    (kept,) = (tmp_path / "runs/cache").iterdir()
    written = kept.stat().st_mtime_ns
    assert torch.equal(diffusion.embed_files(things, 32), first)
    assert kept.stat().st_mtime_ns == written
    Image.new("RGB", (32, 32), "blue").save(tmp_path / "right.png")
    second = diffusion.embed_files(things, 32)
    assert torch.allclose(second[0], first[0], atol=1e-4)
    assert not torch.allclose(second[1], first[1], atol=1e-2)
    assert diffusion.embed_files(things, 48).shape == (2, 1280)
    assert len(list((tmp_path / "runs/cache").iterdir())) == 3
    (tmp_path / "left.png").unlink()
    with pytest.raises(DataError, match=r"left\.png"):
        diffusion.embed_files(things, 32)


def test_a_folder_that_is_no_starter_dataset_is_named(tmp_path):
    with pytest.raises(DataError, match="data starter"):
        diffusion.read_things(tmp_path)
