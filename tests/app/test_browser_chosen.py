"""What people do with a picture on Generate, and with its settings, in a real browser."""

import json
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from pipelines.metadata.settings import read_settings
from tests.app.engines import PacedEngine

pytestmark = pytest.mark.slow
DONE = '#stage [data-state="done"]'
# What the buttons below a picture say: one of them something else for a moment.
NOTE_COPIED = """() => {
  window.noted = [];
  new MutationObserver(() => {
    for (const button of document.querySelectorAll('#details button')) window.noted.push(button.textContent);
  }).observe(document.querySelector('#details'), {subtree: true, childList: true, characterData: true});
}"""


@pytest.fixture
def page(serve: Callable[..., str], visit: Callable[..., Any], tiny_model_folder: Path) -> Any:
    url = serve(tiny_model_folder, lambda folder: PacedEngine(folder, seconds=0.01))
    page = visit(url, permissions=["clipboard-read", "clipboard-write"])
    page.get_by_label("Prompt", exact=True).fill("a red apple")
    page.get_by_label("Seed (-1 is random)").fill("7")
    page.get_by_role("button", name="Generate").click()
    page.locator(DONE).wait_for()
    page.locator("#details .ls-links").wait_for()
    return page


def test_one_setting_is_used_copied_and_downloaded_in_another_format(page: Any, tmp_path: Path) -> None:
    page.evaluate(NOTE_COPIED)
    page.get_by_role("button", name="Copy prompt").click()
    page.wait_for_function("window.noted.includes('Copied')")
    assert page.evaluate("navigator.clipboard.readText()") == "a red apple"

    page.get_by_label("Prompt", exact=True).fill("something else")
    page.get_by_label("Seed (-1 is random)").fill("-1")
    page.locator('#details [data-id="seed"]').click()
    page.wait_for_function("document.querySelector('#seed input').value === '7'")
    assert page.get_by_label("Prompt", exact=True).input_value() == "something else"

    with page.expect_download() as download:
        page.get_by_role("button", name="as JPEG").click()
    download.value.save_as(tmp_path / "mine.jpg")
    settings = read_settings(tmp_path / "mine.jpg")
    assert settings is not None
    assert settings.request is not None
    assert (settings.request.prompt, settings.request.seed) == ("a red apple", 7)

    page.get_by_role("button", name="Add to favourites").first.click()
    page.get_by_role("button", name="Remove from favourites").first.wait_for()
    assert len((tmp_path / "favourites.txt").read_text().split()) == 1


def kept(outputs: Path) -> list[tuple[int, float]]:
    with closing(sqlite3.connect(outputs / "studio.sqlite3")) as database:
        rows = [json.loads(request) for (request,) in database.execute("SELECT request FROM defaults")]
    return [(row["steps"], row["guidance_start"]) for row in rows]


def test_defaults_of_ones_own_are_kept_and_go_again(page: Any, tmp_path: Path) -> None:
    steps = page.get_by_label("number input for Steps")
    model_steps = steps.input_value()
    steps.fill("9")
    page.get_by_role("button", name="More settings").click()
    page.get_by_label("number input for Guidance from").fill("0.25")
    page.get_by_label("number input for Guidance from").press("Tab")
    page.get_by_role("button", name="Make these my defaults").click()
    page.get_by_text("begins with these settings from now on").first.wait_for()
    assert kept(tmp_path) == [(9, 0.25)]
    page.get_by_role("button", name="Back to the model's defaults").click()
    page.wait_for_function("steps => document.querySelector('#steps input').value === steps", arg=model_steps)
    assert kept(tmp_path) == []
