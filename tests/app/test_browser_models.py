"""A model added by its path, chosen, drawn with and switched back, in a real browser, without a restart."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipelines.local_engine import LocalEngine
from pipelines.png import read_png
from tests.app.test_browser import DONE
from tests.tiny import make_tiny_model

pytestmark = pytest.mark.slow


def draw(page: Any, outputs: Path) -> str | None:
    """The model that the next picture names inside."""
    before = set(outputs.glob("*/*.png"))
    page.get_by_role("button", name="Generate").click()
    page.locator(f"#stage {DONE}").wait_for()
    page.wait_for_function("count => document.querySelectorAll('#strip img').length > count", arg=len(before))
    (new,) = set(outputs.glob("*/*.png")) - before
    settings = read_png(new)
    assert settings is not None
    return settings.model_name


def test_a_second_model_is_added_draws_and_is_switched_back(
    serve: Callable[..., str], visit: Callable[..., Any], tiny_model_folder: Path, tmp_path: Path
) -> None:
    mine = make_tiny_model(tmp_path / "folders" / "mine", "epsilon", seed=1)
    url = serve(tiny_model_folder, lambda folder: LocalEngine(folder, "cpu"))
    page, other = visit(url), visit(url, width=375)
    page.get_by_label("Prompt", exact=True).fill("a red apple")
    assert not page.locator("#model").is_visible()
    page.get_by_role("tab", name="Models").click()
    page.get_by_label("Folder or file of a model").fill(str(mine / "unet"))
    page.get_by_role("button", name="Add to the list").click()
    page.get_by_text(re.compile("no model folder: it holds no model_index.json")).first.wait_for()
    page.get_by_label("Folder or file of a model").fill(str(mine))
    page.get_by_role("button", name="Add to the list").click()
    card = page.locator("#model-list li").filter(has=page.get_by_role("heading", name="mine", exact=True))
    card.get_by_role("button", name="Draw with it").click()
    page.locator("#model").wait_for()  # on the tab Generate, which now has a choice
    page.wait_for_function("document.querySelector('#model input').value === 'mine'")
    page.locator(".ls-model").get_by_text("mine").wait_for()
    assert draw(page, tmp_path) == "mine"

    other.get_by_role("tab", name="Models").click()  # another visitor, on a phone, without a reload
    assert other.evaluate("document.documentElement.scrollWidth <= innerWidth")
    other.get_by_role("tab", name="Generate").click()
    other.locator("#model input").click()
    other.get_by_role("option", name="mine", exact=True).wait_for()

    page.locator("#model input").click()
    page.get_by_role("option", name=tiny_model_folder.name, exact=True).click()
    page.locator(".ls-model").get_by_text(tiny_model_folder.name).wait_for()
    assert draw(page, tmp_path) == tiny_model_folder.name
    page.get_by_role("tab", name="Models").click()
    card.get_by_role("button", name="Remove from the list").click()
    card.wait_for(state="detached")
    page.get_by_role("tab", name="Generate").click()
    page.locator("#model").wait_for(state="hidden")
    assert mine.is_dir()
