"""Guiding with a picture, in a real browser: what the net sees is shown, and what guided is in the file."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from pipelines.controlnets import ControlNets
from pipelines.inputs import InputStore
from pipelines.png import read_png
from tests.app import test_browser as browser
from tests.controls import make_controlnet
from tests.stock import make_stock_model

pytestmark = pytest.mark.slow


def test_a_picture_guides_and_its_settings_come_back(
    serve: Callable[..., str], visit: Callable[..., Any], tmp_path: Path
) -> None:
    from pipelines.local_engine import LocalEngine

    make_controlnet(tmp_path / "controlnets" / "lines")
    half = Image.new("RGB", (64, 64))
    half.paste("white", (32, 0, 64, 64))
    half.save(tmp_path / "guide.png")
    store, nets = InputStore(tmp_path / "inputs"), ControlNets(tmp_path / "controlnets")
    url = serve(
        make_stock_model(tmp_path / "model"),
        lambda folder: LocalEngine(folder, "cpu", inputs=store, controlnets=nets),
    )
    page = visit(url)
    page.get_by_label("Prompt", exact=True).fill("a cat")
    page.get_by_label("number input for Steps").fill("2")
    page.get_by_role("button", name="Guide with a picture").click()
    page.get_by_label("ControlNet", exact=True).click()
    page.get_by_role("option", name="lines").click()
    page.locator("#control-picture input[type=file]").set_input_files(tmp_path / "guide.png")
    page.get_by_text("find its edges (Canny)").click()
    page.locator("#control-seen img").wait_for()
    page.locator("#control-scale input[type=number]").fill("0.75")
    assert browser.overflow_pixels(page) <= 0
    page.get_by_role("button", name="Generate").click()
    page.locator(f"#stage {browser.DONE}").wait_for()
    settings = read_png(browser.shown_file(page, "#stage"))
    assert settings is not None
    assert settings.request is not None
    (control,) = settings.request.controls
    assert (control.controlnet, control.preprocessor, control.scale) == ("lines", "canny", 0.75)
    assert store.open(control.picture).tobytes() == half.tobytes()
    page.get_by_text("lines, weight 0.75").wait_for()
    page.locator("#control-scale input[type=number]").fill("0.1")
    page.get_by_role("button", name="Reuse these settings").click()
    page.wait_for_function("document.querySelector('#control-scale input[type=number]').value === '0.75'")
