"""Drawing from a picture, in a real browser: what is painted over changes in the saved file, no more."""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pipelines.inputs import InputStore
from pipelines.png import read_png
from tests.app import test_browser as browser

pytestmark = pytest.mark.slow
# Gradio tells of a change of the editor once it has taken over what was put or painted there.
NOTE_CHANGES = """() => {
  window.changes = 0;
  document.addEventListener('ls-changed', () => { window.changes += 1; });
}"""
COLOURS_OF_A_PICTURE = 500  # an empty editor has fewer


def opened(serve: Callable[..., str], visit: Callable[..., Any], tmp_path: Path, **options: Any) -> Any:
    from pipelines.local_engine import LocalEngine

    store = InputStore(tmp_path / "inputs")
    page = visit(serve(browser.STARTER, lambda folder: LocalEngine(folder, "cpu", inputs=store)), **options)
    page.get_by_label("number input for Steps").fill("6")
    page.get_by_label("Prompt", exact=True).fill("a red apple")
    return page


def until_the_editor_shows_a_picture(page: Any) -> None:
    """Wait until a picture stands on the canvas, twice alike: what is painted before that is lost."""
    canvas, last = page.locator("#editor canvas").first, b""
    for _ in range(240):
        shown = canvas.screenshot()
        with Image.open(io.BytesIO(shown)) as picture:
            colours = picture.convert("RGB").getcolors(1 << 24)
        if shown == last and len(colours) > COLOURS_OF_A_PICTURE:
            return
        last = shown
        page.wait_for_timeout(500)
    raise AssertionError("the editor shows no picture")


def pixels(file: Path) -> np.ndarray[Any, Any]:
    with Image.open(file) as image:
        return np.asarray(image.convert("RGB")).astype(int)


@pytest.mark.parametrize("width", [1280, 375])
def test_what_is_painted_over_changes_and_the_rest_stays_to_the_bit(
    serve: Callable[..., str], visit: Callable[..., Any], tmp_path: Path, width: int
) -> None:
    page = opened(serve, visit, tmp_path, width=width)
    smooth = Image.linear_gradient("L").resize((128, 128))
    Image.merge("RGB", [smooth, smooth.rotate(90), smooth.rotate(180)]).save(tmp_path / "mine.png")
    page.get_by_role("button", name="From an image").click()
    canvas = page.locator("#editor canvas").first
    canvas.wait_for()  # what is dropped on the editor before it is there gets lost
    page.evaluate(NOTE_CHANGES)
    page.locator("#editor input[type=file]").first.set_input_files(tmp_path / "mine.png")
    page.wait_for_function("window.changes > 0")
    until_the_editor_shows_a_picture(page)
    canvas.scroll_into_view_if_needed()
    box = canvas.bounding_box()
    middle = (box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    changes = page.evaluate("window.changes")
    page.mouse.move(*middle)
    page.mouse.down()
    for step in range(1, 6):
        page.mouse.move(middle[0] + 4 * step, middle[1] + 3 * step)
    page.mouse.up()
    page.wait_for_function("before => window.changes > before", arg=changes)
    page.wait_for_timeout(3000)  # should that have been a second word of the picture
    assert browser.overflow_pixels(page) <= 0
    page.get_by_role("button", name="Generate").click()
    page.locator(f"#stage {browser.DONE}").wait_for()
    file = browser.shown_file(page, "#stage")
    settings = read_png(file)
    assert settings is not None
    assert settings.request is not None
    image = settings.request.image
    assert image is not None
    assert image.mask is not None
    drawn, before = pixels(file), pixels(tmp_path / "mine.png")
    mask = pixels(InputStore(tmp_path / "inputs").path(image.mask))[..., 0] > 0
    assert 0 < mask.mean() < 0.5
    assert drawn.shape == before.shape
    assert (drawn[~mask] == before[~mask]).all()
    assert (drawn[mask] != before[mask]).any()
    page.locator("#before-after img").first.wait_for()


def test_a_result_is_the_start_of_the_next_and_a_second_pass_enlarges_it(
    serve: Callable[..., str], visit: Callable[..., Any], tmp_path: Path
) -> None:
    page = opened(serve, visit, tmp_path)
    page.get_by_role("button", name="Generate").click()
    page.locator(f"#stage {browser.DONE}").wait_for()
    first = browser.shown_file(page, "#stage")
    address = page.locator("#stage img").first.get_attribute("src")
    page.get_by_role("button", name="Start from this picture").click()
    page.locator("#editor canvas").first.wait_for()
    until_the_editor_shows_a_picture(page)
    page.get_by_role("button", name="Larger, seamless").click()
    page.get_by_label("number input for Second pass", exact=False).fill("1.5")
    page.get_by_role("button", name="Generate").click()
    page.wait_for_function("document.querySelectorAll('#strip img').length === 2")
    page.wait_for_function(
        "first => { const image = document.querySelector('#stage [data-state=\"done\"] img');"
        " return image && image.getAttribute('src') !== first; }",
        arg=address,
    )
    second = browser.shown_file(page, "#stage")
    settings = read_png(second)
    assert settings is not None
    assert settings.request is not None
    assert settings.request.image is not None
    assert settings.request.image.mask is None
    stored = InputStore(tmp_path / "inputs").path(settings.request.image.picture)
    assert (pixels(stored) == pixels(first)).all()
    assert pixels(second).shape == (192, 192, 3)
    page.locator("#before-after img").first.wait_for()
    page.get_by_role("button", name="Reuse these settings").click()
    page.wait_for_function("document.querySelector('#scale input[type=number]').value === '1.5'")
