from pathlib import Path

import pytest

from pipelines.local_engine import LocalEngine


@pytest.fixture(scope="module")
def engine(tiny_model_folder: Path) -> LocalEngine:
    """The tiny model on the CPU, by torch."""
    return LocalEngine(tiny_model_folder, "cpu")
