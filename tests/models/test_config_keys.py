import json
import logging
import shutil
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.config_keys import CODE_KEYS, checked_config, ignored_keys, refuse_code
from models.errors import ModelError
from models.folder import load_model

PARTS = ("unet", "vae", "text_encoder")
ASKS = [*(f"{part}/config.json" for part in PARTS), "model_index.json", "tokenizer/tokenizer_config.json"]


def edit(file: Path, **changes: Any) -> None:
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))


def test_a_key_that_no_class_takes_is_left_out_and_counts_of_layers_are_bounded() -> None:
    assert checked_config({"width": 1, "_note": 2, "new": 3}, {"width"}, {"_note"}, Path("c")) == {"width": 1}
    with pytest.raises(ModelError, match="more than 256"):
        checked_config({"layers_per_block": [1, 10**9]}, {"layers_per_block"}, set(), Path("c"))


def test_a_model_with_unknown_keys_is_loaded_and_they_are_named_once(
    tiny_model_folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = shutil.copytree(tiny_model_folder, tmp_path / "newer")
    for part in PARTS:
        edit(folder / part / "config.json", of_next_year={"deep": 1})
    with caplog.at_level(logging.WARNING):
        load_model(folder)
        load_model(folder)
    files = [folder / part / "config.json" for part in PARTS]
    told = [record.getMessage() for record in caplog.records if "of_next_year" in record.getMessage()]
    assert sorted(told) == sorted(
        f"{file} has keys that are not known here and are ignored: 'of_next_year'" for file in files
    )
    assert ignored_keys(folder) == {file: ("of_next_year",) for file in sorted(files)}
    assert ignored_keys(tmp_path / "other") == {}


@pytest.mark.parametrize("file", ASKS)
def test_a_model_that_asks_for_code_is_refused_wherever_it_asks(
    tiny_model_folder: Path, tmp_path: Path, file: str
) -> None:
    folder = shutil.copytree(tiny_model_folder, tmp_path / "evil")
    edit(folder / file, deep=[{"auto_map": {"AutoModel": "evil.Model"}}])
    with pytest.raises(ModelError, match="'auto_map', which asks for code") as caught:
        load_model(folder)
    assert str(folder / file) in str(caught.value)


HARMLESS = st.text().filter(lambda key: key not in CODE_KEYS)  # which hypothesis finds in our source
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(HARMLESS, inner),
)


@given(
    config=st.dictionaries(HARMLESS, JSON), key=st.sampled_from(sorted(CODE_KEYS)), depth=st.integers(0, 500)
)
def test_a_key_that_asks_for_code_is_found_at_any_depth_and_nothing_else_is(
    config: dict[str, Any], key: str, depth: int
) -> None:
    refuse_code(config, "c")
    for level in range(depth):
        config = {"in": config} if level % 2 else {"in": [config]}
    deepest: Any = config
    while isinstance(deepest, dict) and "in" in deepest:
        deepest = deepest["in"][0] if isinstance(deepest["in"], list) and deepest["in"] else deepest["in"]
    if isinstance(deepest, dict):
        deepest[key] = None
        with pytest.raises(ModelError, match=key):
            refuse_code(config, "c")
