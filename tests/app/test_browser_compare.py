"""A comparison made, stopped and kept, in a real browser."""

import dataclasses
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from pipelines.compare.axes import axes_from_json
from pipelines.png import read_png
from tests.app.engines import PacedEngine

pytestmark = pytest.mark.slow


@pytest.fixture
def page(
    serve: Callable[..., str], visit: Callable[..., Any], tiny_model_folder: Path, gate: threading.Semaphore
) -> Iterator[Any]:
    """A page whose engine draws a step for each release of the gate: no machine is too slow to look on."""
    page = visit(serve(tiny_model_folder, lambda folder: PacedEngine(folder, gate)))
    page.get_by_label("Prompt", exact=True).fill("a red apple")
    page.get_by_label("Seed (-1 is random)").fill("7")
    page.get_by_role("tab", name="Compare").click()
    yield page
    gate.release(10_000)


def choose(page: Any, number: int, setting: str, values: str) -> None:
    page.locator(f"#axis-{number} input").click()
    # Its own list: the one of the axis before may still be closing.
    page.locator(f"#axis-{number}").get_by_role("option", name=setting, exact=True).click()
    page.locator(f"#values-{number} textarea").fill(values)


def test_a_sheet_is_drawn_with_its_settings_and_can_be_found(
    page: Any, tmp_path: Path, gate: threading.Semaphore
) -> None:
    choose(page, 1, "Seed", "1-3")
    choose(page, 2, "Words", "red, green")
    page.locator("#draw-comparison").click()
    page.locator('#sheet [data-state="live"]').wait_for()
    gate.release(10_000)
    page.locator('#sheet [data-state="done"] .ls-sheet img').wait_for()
    (sheet,) = tmp_path.glob("*/*-sheet.png")
    settings = read_png(sheet)
    assert settings is not None
    assert [axis.values for axis in axes_from_json(settings.extra["axes"])] == [(1, 2, 3), ("red", "green")]
    drawn = [read_png(path) for path in tmp_path.glob("*/*.png") if path != sheet]
    asked = {one.request for one in drawn if one is not None and one.request is not None}
    base = dataclasses.replace(settings.request, prompt="a green apple")
    assert {dataclasses.replace(base, seed=seed) for seed in (1, 2, 3)} <= asked
    assert len(asked) == 6
    with Image.open(sheet) as image:
        shown = page.locator(".ls-sheet img").evaluate(
            "image => image.decode().then(() => [image.naturalWidth, image.naturalHeight])"
        )
        assert tuple(shown) == image.size
    page.get_by_role("tab", name="History").click()
    page.get_by_text("1 to 7 of 7").wait_for()


def test_stop_keeps_what_is_drawn_and_wrong_values_are_told(
    page: Any, tmp_path: Path, gate: threading.Semaphore
) -> None:
    gate.release(5 + 10)  # two cells
    choose(page, 1, "Steps", "many")
    choose(page, 2, "nothing", "")
    page.locator("#draw-comparison").click()
    page.get_by_text("'many' is not a whole number for steps").wait_for()
    choose(page, 1, "Steps", "5-50 (+5)")
    page.locator("#draw-comparison").click()
    page.locator("#sheet button.ls-cell").nth(1).wait_for()
    page.locator("#stop-comparison").click()
    page.locator("#sheet").get_by_text("Stopping after this step").wait_for()
    gate.release(1)
    page.get_by_text("pictures that were finished are kept").first.wait_for()
    (sheet,) = tmp_path.glob("*/*-sheet.png")
    drawn = len(list(tmp_path.glob("*/*.png"))) - 1
    assert drawn == 2
    grey = Image.open(sheet).getcolors(1_000_000)
    assert any(colour == (0xE9, 0xE9, 0xE6) for _, colour in grey)
