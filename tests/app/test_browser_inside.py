"""Looking inside in a real browser, with the real starter model: effects, not clicks."""

import base64
import io
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pipelines.local_engine import LocalEngine
from tests.app.test_browser import DONE, STARTER, overflow_pixels

pytestmark = pytest.mark.slow


def picture_at(page: Any, place: str) -> np.ndarray:
    """The pixels of the first picture at a place, which is a data URI."""
    address = page.locator(f"{place} img").first.get_attribute("src")
    with Image.open(io.BytesIO(base64.b64decode(address.partition("base64,")[2]))) as picture:
        return np.asarray(picture.convert("RGB")).astype(int)


@pytest.mark.parametrize("width", [1280, pytest.param(375, marks=pytest.mark.exhaustive)])
def test_a_picture_is_looked_into(
    serve: Callable[..., str],
    visit: Callable[..., Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    width: int,
) -> None:
    monkeypatch.setenv("LATENT_STUDIO_RUNS", str(tmp_path / "runs"))
    page = visit(serve(STARTER, lambda folder: LocalEngine(folder, "cpu")), width=width)
    page.get_by_label("number input for Steps").fill("4")
    page.get_by_label("Seed", exact=False).first.fill("7")
    page.get_by_label("Prompt", exact=True).first.fill("a red apple")
    page.keyboard.press("Control+Enter")
    page.locator(f"#stage {DONE}").wait_for()
    page.get_by_role("button", name="Look inside", exact=True).click()

    # Words: drawn again it is the same picture, and each word has another map.
    page.locator("#inside-words .ls-word").first.wait_for()
    words = page.locator("#inside-words .ls-word")
    assert words.all_inner_texts() == ["a", "red", "apple"]
    assert re.search(r"to the last bit|PSNR", page.locator("#inside-words").inner_text())
    shade = page.locator("#inside-words .ls-shade")
    assert not shade.is_visible()
    words.nth(2).hover()
    shade.wait_for(state="visible")
    of_apple = shade.get_attribute("src")
    page.mouse.move(0, 0)
    shade.wait_for(state="hidden")
    words.nth(0).focus()
    page.keyboard.press("Tab")  # the keyboard reaches them too
    page.wait_for_function("document.querySelector('#inside-words .ls-shade').dataset.word === 'red'")
    of_red = shade.get_attribute("src")
    assert of_red != of_apple
    words.nth(2).press("Enter")
    assert words.nth(2).get_attribute("aria-pressed") == "true"
    page.locator("#inside-words input[type=range]").press("ArrowRight")
    assert page.locator("#inside-words output").inner_text() == "step 1"
    assert shade.get_attribute("src") not in (of_apple, of_red)
    assert overflow_pixels(page) <= 0

    # Steps: another step is another picture; an unchanged branch is close, one with other words is not.
    page.get_by_role("tab", name="Steps").click()
    page.locator("#inside-pictures figure").first.wait_for()
    assert page.locator("#inside-pictures figure").count() == 3
    last = picture_at(page, "#inside-pictures")
    page.get_by_label("number input for Step", exact=True).fill("2")
    page.get_by_label("number input for Step", exact=True).press("Tab")
    page.get_by_text("Step 2 of 4").wait_for()
    assert np.abs(picture_at(page, "#inside-pictures") - last).mean() > 2
    page.get_by_role("button", name="Decode this step").click()
    page.locator("#decoded figure").first.wait_for()
    assert picture_at(page, "#decoded").shape == (128, 128, 3)
    page.locator("#branch-prompt textarea, #branch-prompt input").fill("a blue fish")
    page.get_by_role("button", name="Branch from here").click()
    page.locator("#branched figure").nth(1).wait_for()
    before, after = picture_at(page, "#branched"), picture_at(page, "#branched figure:nth-of-type(2)")
    assert np.abs(before - after).mean() > 1
    assert "Branched at step 2" in page.locator("#branched").inner_text()
    assert overflow_pixels(page) <= 0

    # Latent: its channels, and a walk to another seed that begins with the picture itself.
    page.get_by_role("tab", name="Latent").click()
    page.locator("#channels figure").nth(7).wait_for()
    assert page.locator("#channels figure").count() == 8
    page.get_by_label("number input for Pictures on the way").fill("3")
    page.get_by_role("button", name="Walk", exact=True).click()
    page.locator("#walked .ls-frames img").nth(2).wait_for()
    assert np.abs(picture_at(page, "#walked .ls-frames") - before).max() <= 2
    moving = page.locator("#walked figure img").get_attribute("src")
    with Image.open(io.BytesIO(base64.b64decode(moving.partition("base64,")[2]))) as picture:
        assert (picture.format, picture.n_frames) == ("WEBP", 4)  # there and back
    assert overflow_pixels(page) <= 0

    # Autoencoders: the starter's own takes a picture there and back.
    page.get_by_role("tab", name="Lab", exact=True).click()
    Image.linear_gradient("L").resize((100, 70)).convert("RGB").save(tmp_path / "mine.png")
    page.locator("#lab-picture input[type=file]").set_input_files(tmp_path / "mine.png")
    page.locator("#lab-picture img").wait_for()
    page.get_by_role("button", name="Take it there and back").click()
    page.locator("#lab-table td").first.wait_for()
    cells = page.locator("#lab-table td").all_inner_texts()
    assert cells[:3] == ["8", "8", "0.125"]
    assert float(cells[3].removesuffix(" dB")) > 20
    page.locator("#lab-slider img").nth(1).wait_for()
    assert overflow_pixels(page) <= 0
