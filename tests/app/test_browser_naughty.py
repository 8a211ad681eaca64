"""Prompts that are markup, in a real browser: shown as words, run by nobody."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.app.engines import PacedEngine
from tests.test_naughty import naughty

pytestmark = pytest.mark.slow
# From the list itself, of each kind one: an element, an attribute, an address, an image, an entity, a style.
KINDS = ("<script>alert", "onerror=", "javascript:", "<svg", "&lt;", "style=")


def test_no_prompt_is_markup(
    serve: Callable[..., str], visit: Callable[..., Any], tiny_model_folder: Path
) -> None:
    strings = naughty("all")
    chosen = [next(text for text in strings if kind in text) for kind in KINDS]
    page = visit(serve(tiny_model_folder, PacedEngine))
    asked: list[str] = []
    page.on("dialog", lambda dialog: (asked.append(dialog.message), dialog.dismiss()))
    scripts = page.locator("script").count()
    for number, text in enumerate(chosen, start=1):
        page.locator("#prompt textarea").fill(text)
        page.get_by_role("button", name="Generate").click()
        page.wait_for_function(f"document.querySelectorAll('#strip img').length >= {number}")
    page.reload()
    page.locator("#strip img").first.wait_for()
    assert page.locator("#stage script, #strip script, #line script, [onerror]").count() == 0
    assert page.locator("script").count() <= scripts + 2
    assert asked == []
