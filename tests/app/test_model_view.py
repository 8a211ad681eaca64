"""What the cards of the tab Models say of a model that was loaded."""

import json
import shutil
from pathlib import Path

from app.model_list import ModelList
from app.model_view import model_cards
from models.folder import load_model


def test_keys_that_were_ignored_stand_on_the_card_escaped(tiny_model_folder: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(tiny_model_folder, tmp_path / "newer")
    file = folder / "unet" / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "<b>of_next_year": 1}))
    models = ModelList([folder])
    assert "of_next_year" not in model_cards(models.listed, {}, "", False)  # not yet loaded
    load_model(folder)
    card = model_cards(models.listed, {}, "", False)
    assert "unet/config.json has settings that are not known here" in card
    assert "&lt;b&gt;of_next_year" in card
    assert "<b>of_next_year" not in card
