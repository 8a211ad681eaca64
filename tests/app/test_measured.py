"""What the page says of how good a model is: numbers, intervals, and nothing that a file could smuggle in."""

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gradio as gr
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.context import open_context
from app.measured import measured
from app.page import build_page
from app.settings import Settings
from app.tabs.generate import GenerateTab
from tests.app.engines import PacedEngine

FOUND = {
    "n": 300,
    "top1": 0.12, "top1_interval": [0.088, 0.162], "ceiling_top1": 0.565,
    "top5": 0.283, "top5_interval": [0.234, 0.336], "share_top5": 0.3551,
    "ceiling_top5": 0.797, "ceiling_top5_interval": [0.731, 0.849],
}  # fmt: skip
METRICS = {
    "autoencoder": {
        "psnr_db": 30.038, "psnr_db_interval": [29.5291, 30.5469],
        "psnr_box_db": 27.8338, "psnr_box_db_interval": [27.3144, 28.3531],
        "ssim": 0.9487, "ssim_interval": [0.9438, 0.9536],
    },
    "diffusion": {
        "retrieval": {kind: FOUND for kind in ("train", "heldout", "paraphrase")},
        "features": "efficientnet-lite0",
        "kernel_distance": 0.012345, "kernel_distance_interval": [0.011, 0.0137], "frechet_distance": None,
        "other_features": {"clip-vit-base-patch32": {"kernel_distance": 0.5, "frechet_distance": 7.25}},
    },
    "instant": {
        "steps": 4, "kernel_distance_ratio": 1.08, "kernel_distance_ratio_interval": [1.01, 1.15],
        "retrieval_top5_drop": 0.02, "retrieval_top5_drop_interval": [-0.01, 0.05],
    },
}  # fmt: skip


@pytest.fixture
def model(tiny_model_folder: Path, tmp_path: Path) -> Callable[..., Path]:
    def make(name: str, metrics: Any = None) -> Path:
        folder = tmp_path / name
        shutil.copytree(tiny_model_folder, folder)
        if metrics is not None:
            (folder / "metrics.json").write_text(json.dumps(metrics))
        return folder

    return make


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Callable[..., Any]]:
    contexts = []

    def open_models(*folders: Path) -> Any:
        contexts.append(open_context(folders, PacedEngine, settings=Settings(outputs=tmp_path)))
        return contexts[-1]

    yield open_models
    for context in contexts:
        context.close()


def test_the_page_shows_the_measures_of_its_model(
    model: Callable[..., Path], opened: Callable[..., Any]
) -> None:
    page, _ = build_page(opened(model("good", METRICS)))
    (shown,) = [block.value for block in page.blocks.values() if getattr(block, "elem_id", "") == "measured"]
    assert shown.count("28.3% (23.4% to 33.6%)") == 3
    assert shown.count("36% of the 79.7% (73.1% to 84.9%) that real pictures reach") == 3
    assert shown.count("the nearest one: 12.0% (8.8% to 16.2%), of real pictures 56.5%; 300 captions") == 3
    for words in (
        "held-out pairs", "other words",
        "Kernel distance (efficientnet-lite0)", "0.01235 (0.011 to 0.0137)",
        "Kernel distance (clip-vit-base-patch32)", "Frechet distance (clip-vit-base-patch32)", "7.25",
        "30.04 dB (29.53 to 30.55)", "27.83 dB (27.31 to 28.35)", "0.9487 (0.9438 to 0.9536)",
        "Instant, 4 steps", "1.08 (1.01 to 1.15) times the kernel distance",
        "points of retrieval lost: 2.0 (-1.0 to 5.0)",
    ):  # fmt: skip
        assert words in shown
    assert "Frechet distance (efficientnet-lite0)" not in shown  # it was not measured
    assert "launch.py evaluate" not in shown


def test_another_model_has_its_own_measures_as_its_folder_says_now(
    model: Callable[..., Path], opened: Callable[..., Any]
) -> None:
    good, new = model("good", METRICS), model("new & bold")
    with gr.Blocks(analytics_enabled=False):
        tab = GenerateTab(opened(good, new))
    assert "28.3%" in tab.measures(str(good))
    shown = tab.measures(str(new))
    assert "28.3%" not in shown
    for part in ("diffusion", "autoencoder"):
        assert f"python launch.py evaluate {part} --model &#x27;{tab.context.models[1].path.parent}" in shown
    assert "new &amp; bold" in shown
    (new / "metrics.json").write_text(json.dumps({"autoencoder": METRICS["autoencoder"]}))
    shown = tab.measures(str(new))
    assert "30.04 dB" in shown
    assert "evaluate diffusion" in shown
    assert "evaluate autoencoder" not in shown


def test_a_page_without_a_model_has_nothing_to_say(opened: Callable[..., Any]) -> None:
    with gr.Blocks(analytics_enabled=False):
        assert GenerateTab(opened()).measures("") == ""


def test_a_damaged_file_is_named(model: Callable[..., Path]) -> None:
    folder = model("bad")
    (folder / "metrics.json").write_text('{"autoencoder": <b>')
    shown = measured(folder)
    assert "metrics.json is damaged" in shown
    assert "<b>" not in shown


def test_names_from_a_file_stay_text_and_wrong_numbers_are_left_out(model: Callable[..., Path]) -> None:
    evil = "<img src=x onerror=alert(1)>" + "x" * 500
    metrics = {
        "autoencoder": {"psnr_db": evil, "ssim": 0.5, "ssim_interval": [evil, 1]},
        "diffusion": {
            "features": evil, "kernel_distance": 1, "kernel_distance_interval": evil,
            "retrieval": {"train": {"top5": 10**400}, "heldout": [1], "paraphrase": {"top5": True}},
            "other_features": {f"{evil}{number}": {"kernel_distance": 2} for number in range(50)},
        },
        "instant": {"steps": evil, "kernel_distance_ratio": 1, "retrieval_top5_drop": evil},
    }  # fmt: skip
    shown = measured(model("evil", metrics))
    assert "<img" not in shown
    assert "Kernel distance (&lt;img" in shown
    assert ">0.5</td>" in shown
    assert "PSNR" not in shown
    assert "Instant" not in shown
    assert len(shown) < 2500


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


def places(part: dict[str, Any]) -> Iterator[tuple[dict[str, Any], str]]:
    """Every place in nested objects where a value stands."""
    for key, value in part.items():
        yield part, key
        if isinstance(value, dict):
            yield from places(value)


@given(data=st.data())
def test_whatever_stands_in_the_file_the_page_has_an_answer(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.getbasetemp() / "any"
    folder.mkdir(exist_ok=True)
    metrics = json.loads(json.dumps(METRICS))
    part, key = data.draw(st.sampled_from(list(places(metrics))))
    part[key] = data.draw(json_values)
    (folder / "metrics.json").write_text(json.dumps(metrics))
    assert measured(folder).startswith("<details")
