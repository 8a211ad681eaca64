import shutil
from pathlib import Path

import pytest

from app.cards import CUSTOM, ModelCard, read_card
from models.errors import ModelError


@pytest.mark.parametrize(("width", "height"), [(128, 128), (512, 512), (32, 32), (768, 512), (1024, 1024)])
def test_presets_are_sizes_the_model_draws(tiny_model_folder: Path, width: int, height: int) -> None:
    from models.defaults import GenerationDefaults

    defaults = GenerationDefaults(width=width, height=height)
    card = ModelCard(
        name="m", path=tiny_model_folder, defaults=defaults, factor=8, distilled=False, examples=()
    )
    *presets, last = [value for _, value in card.sizes]
    assert (presets[0], last) == (f"{width}x{height}", CUSTOM)
    assert len(set(presets)) == len(presets) >= 3
    for preset in presets:
        wide, high = map(int, preset.split("x"))
        assert wide % 8 == high % 8 == 0
        assert 0.6 < wide * high / (width * height) < 1.6


def test_a_card_tells_a_model_by_its_small_files(tiny_model_folder: Path, tmp_path: Path) -> None:

    card = read_card(tiny_model_folder)
    assert (card.name, card.size, card.factor) == (tiny_model_folder.name, "32x32", 8)
    own = tmp_path / "own"
    shutil.copytree(tiny_model_folder, own)
    (own / "examples.json").write_text('{"prompts": ["a blue dog"]}')
    assert read_card(own).examples == ("a blue dog",)
    (own / "generation_defaults.json").write_text('{"width": 32, "height": 32, "sampler": "Oiler"}')
    with pytest.raises(ModelError, match="Oiler"):
        read_card(own)
    (own / "generation_defaults.json").write_text('{"width": 32, "height": 32, "sampler": "LCM"}')
    with pytest.raises(ModelError, match="distilled"):
        read_card(own)
