"""The page in Traditional Chinese, in a real browser, and its way back to English."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.app.engines import PacedEngine

pytestmark = pytest.mark.slow
STARTER = Path(__file__).parents[2] / "checkpoints" / "starter"
DONE = '[data-state="done"]'


def test_two_visitors_read_the_page_in_their_own_language(
    serve: Callable[..., str], visit: Callable[..., Any], tiny_model_folder: Path
) -> None:
    url = serve(tiny_model_folder, PacedEngine)
    chinese, english = visit(url, locale="zh-TW"), visit(url, locale="en-GB")
    for page, generate, prompt, done, lang in (
        (chinese, "產生", "提示詞", "完成", "zh-TW"),
        (english, "Generate", "Prompt", "Done in", "en"),
    ):
        assert page.evaluate("document.documentElement.lang") == lang
        page.get_by_label(prompt, exact=True).fill("a red apple")
        page.get_by_role("button", name=generate, exact=True).click()
        page.locator(f"#stage {DONE}").wait_for()
        assert done in page.locator("#stage").inner_text()
        page.screenshot(path=f"/tmp/lang-{lang}.png")
