import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from accelerate.state import AcceleratorState
from PIL import Image


@pytest.fixture(autouse=True)
def own_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test finds what another drew or embedded, or leaves it in the repository."""
    monkeypatch.setenv("LATENT_STUDIO_RUNS", str(tmp_path / "runs"))


@pytest.fixture(autouse=True)
def threads_as_they_were() -> Iterator[None]:
    """Commands that measure have one thread for the rest of their process, which goes on here."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture(autouse=True)
def no_accelerator_of_another_test() -> Iterator[None]:
    """accelerate keeps its precision for the life of a process, in which tests of other folders train."""
    AcceleratorState._reset_state(reset_partial_state=True)
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    """Four things in three styles, as `data starter` writes them."""
    folder, rows = tmp_path / "data", []
    folder.mkdir()
    for number, concept in enumerate(("dog", "cat", "red apple", "kite")):
        for style in ("noto", "flat", "glossy"):
            name = f"{number}-{style}.png"
            Image.new("RGB", (32, 32), (60 * number, 90, len(style) * 20)).save(folder / name)
            split = "held-out pair" if style == "glossy" else "train"
            rows.append(
                {
                    "file_name": name,
                    "text": f"{concept}, {style} style",
                    "concepts": [concept],
                    "style": style,
                    "background": "white",
                    "split": "held-out concept" if concept == "kite" else split,
                }
            )
    (folder / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return folder
