import json
from argparse import Namespace

import pytest
from PIL import Image

from evaluation import diffusion
from models.errors import DataError


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


def test_a_folder_that_is_no_starter_dataset_is_named(tmp_path):
    with pytest.raises(DataError, match="data starter"):
        diffusion.read_things(tmp_path)
