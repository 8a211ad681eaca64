from collections.abc import Iterator
from pathlib import Path

import pytest
from accelerate.state import AcceleratorState
from PIL import Image, ImageDraw


@pytest.fixture(autouse=True)
def own_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test finds what another computed, or leaves runs and caches in the repository."""
    monkeypatch.setenv("LATENT_STUDIO_RUNS", str(tmp_path / "runs"))


@pytest.fixture(scope="session")
def picture_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve captioned pictures of 32 px: circles and squares in six colours."""
    folder = tmp_path_factory.mktemp("pictures")
    for number, colour in enumerate(("red", "green", "blue", "orange", "purple", "black")):
        for shape in ("circle", "square"):
            image = Image.new("RGB", (32, 32), "white")
            draw = ImageDraw.Draw(image)
            box = (6 + number, 6, 25, 25 - number)
            (draw.ellipse if shape == "circle" else draw.rectangle)(box, fill=colour)
            image.save(folder / f"{colour}_{shape}.png")
    return folder


@pytest.fixture(autouse=True)
def no_accelerator_of_another_test() -> Iterator[None]:
    """accelerate keeps its precision for the life of a process, in which one training is expected.

    Tests of other folders train as well, so there may be one before the first test of this one.
    """
    AcceleratorState._reset_state(reset_partial_state=True)
    yield
    AcceleratorState._reset_state(reset_partial_state=True)
