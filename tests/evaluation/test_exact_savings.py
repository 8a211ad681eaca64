from pathlib import Path

import pytest

from evaluation.exact_savings import TOKENS, parts, savings
from models.folder import load_model
from pipelines.runners.folder import GRAPHS_VARIABLE


@pytest.mark.slow
def test_every_saving_and_every_part_is_timed(
    tiny_model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(GRAPHS_VARIABLE, str(tmp_path))
    model = load_model(tiny_model_folder)
    saved, of_parts = savings(model), parts(model)
    assert len(saved) == 2 * len(TOKENS) + 1
    assert len(of_parts) == 4
    assert min(*saved.values(), *of_parts.values()) > 0
