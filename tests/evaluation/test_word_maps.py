import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from evaluation.word_maps import OnColour, more_inside, places, read_on_colours
from models.errors import DataError
from models.folder import load_model
from tests.tiny import tiny_text_encoder
from training.data.colours import BACKGROUNDS


def composed(icon: Image.Image, side: int, colour: tuple[int, int, int]) -> Image.Image:
    """An icon at a size in the middle of a colour, as the dataset has it."""
    picture = Image.new("RGBA", (128, 128), (*colour, 255))
    small = icon.resize((side, side), Image.Resampling.BOX)
    picture.alpha_composite(small, ((128 - side) // 2, (128 - side) // 2))
    return picture.convert("RGB")


@pytest.fixture
def picture(tmp_path: Path) -> OnColour:
    """A half see-through white disc in a red one: no colour alone tells it from its background."""
    y, x = np.mgrid[:1344, :1344] - 671.5
    radius = np.hypot(x, y)
    icon = np.zeros((1344, 1344, 4), np.uint8)
    icon[radius < 600] = (200, 30, 30, 255)
    icon[radius < 300] = (255, 255, 255, 128)
    whole = Image.fromarray(icon)
    composed(whole, 112, (255, 255, 255)).save(tmp_path / "disc.png")
    composed(whole, 96, BACKGROUNDS["blue"]).save(tmp_path / "disc-on-blue.png")
    return OnColour(tmp_path / "disc-on-blue.png", tmp_path / "disc.png", "", "disc", "blue")


def test_alpha_comes_back_from_two_backgrounds(picture: OnColour) -> None:
    alpha = picture.alpha()
    assert alpha.shape == (128, 128)
    assert alpha[64, 64] == pytest.approx(0.5, abs=0.02)
    assert alpha[64, 64 + 30] == pytest.approx(1, abs=0.02)
    assert alpha[64, 64 + 46] == pytest.approx(0, abs=0.02)
    assert alpha[2, 2] == 0


def test_inside_and_outside_are_means_over_the_thing() -> None:
    alpha = torch.zeros(8, 8)
    alpha[:, :2] = 1
    flat, left = torch.ones(4, 4), torch.zeros(4, 4)
    left[:, 0] = 1
    differences = more_inside(torch.stack([flat, left, 1 - left]), alpha)
    assert differences[0] == 0
    assert differences[1] == pytest.approx(-float(differences[2]))
    assert differences[1] > 0.5


def test_words_of_the_thing_and_of_its_background_are_found(picture: OnColour) -> None:
    encoder = tiny_text_encoder()
    named = OnColour(
        picture.file, picture.on_white, "red cat on a blue background, dog style", "red cat", "blue"
    )
    thing, background = places(encoder, named)
    words = ["red", "cat", "on", "a", "blue", "background", ",", "dog", "style"]
    assert (words[thing], words[background]) == (["red", "cat"], ["blue", "background"])


def test_the_judged_and_the_others_are_told_apart(tmp_path: Path) -> None:
    rows = [
        {"file_name": f"images/a/{n}-on-red.png", "text": "", "concepts": ["x"], "background": "red"}
        for n in range(310)
    ]
    (tmp_path / "metadata.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    judged, others = read_on_colours(tmp_path)
    assert (len(judged), len(others)) == (300, 10)
    assert {one.file for one in judged}.isdisjoint(one.file for one in others)
    assert judged[0].on_white.name == judged[0].file.name.replace("-on-red", "")
    with pytest.raises(DataError, match="data starter"):
        read_on_colours(tmp_path / "nowhere")


def test_the_starter_model_reads_the_dataset_s_captions() -> None:
    starter = load_model(Path(__file__).parents[2] / "checkpoints" / "starter")
    named = OnColour(Path(), Path(), "", "glowing star", "orange")
    assert places(starter.text_encoder, named) == (slice(0, 2), slice(4, 6))  # type: ignore[arg-type]
