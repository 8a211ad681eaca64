"""The list of models, which grows while the server runs."""

import json
import shutil
from pathlib import Path

import pytest

from app.model_list import ModelList
from models.errors import ModelError


def test_a_model_that_is_added_twice_stands_once_and_as_it_is_now(
    tiny_model_folder: Path, tmp_path: Path
) -> None:
    models = ModelList([tiny_model_folder])
    folder = shutil.copytree(tiny_model_folder, tmp_path / "mine")
    assert models.add(folder) is models[1]
    defaults = json.loads((folder / "generation_defaults.json").read_text())
    (folder / "generation_defaults.json").write_text(json.dumps(defaults | {"steps": 7}))
    models.add(folder)
    assert [card.path for card in models] == [tiny_model_folder, folder]
    assert models[1].defaults.steps == 7


def test_what_is_no_model_is_not_added(tiny_model_folder: Path, tmp_path: Path) -> None:
    models = ModelList([tiny_model_folder])
    with pytest.raises(ModelError):
        models.add(tmp_path)
    assert len(models) == 1
