"""The page in Traditional Chinese, in a real browser, and its way back to English."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
from PIL import Image

from app import text
from models.defaults import read_defaults
from tests.app.engines import PacedEngine
from tests.app.test_language import parts

pytestmark = pytest.mark.slow
STARTER = Path(__file__).parents[2] / "checkpoints" / "starter"
DONE = '[data-state="done"]'
# What is the same in both languages, or is a word of a prompt or a setting.
SHARED = {
    "TITLE",
    "EXAMPLE_PROMPTS",
    "SEARCH_HINT",
    "PATTERN_HELP",
    "SSIM",
    "PSNR",
    "LAB_COLUMNS",
    "COMPARE_HELP",
    "TRAIN_FOLDER_HINT",
    "TRAIN_MORE_HINT",
}

UNFOLD = """() => {
  document.querySelectorAll('details').forEach((it) => { it.open = true; });
  document.querySelectorAll('button.label-wrap:not(.open)').forEach((it) => it.click());
}"""


def english_words() -> Iterator[str]:
    """Each English sentence of the page, up to its first placeholder or tag."""
    for name, value in vars(text).items():
        if name.isupper() and name not in SHARED:
            for _, words in parts(value):
                plain = re.split(r"[{<%]", words)[0].strip()
                if len(plain) > 3:
                    yield plain


def seen(page: Any) -> list[str]:
    """What can be read or heard of the page now, line by line."""
    found: list[str] = page.evaluate(
        """() => {
          const named = ['aria-label', 'placeholder', 'title', 'alt'];
          const all = [...document.querySelectorAll('.gradio-container *')];
          const told = all.filter((it) => it.checkVisibility());
          const lines = told.flatMap((it) => named.map((name) => it.getAttribute(name) ?? ''));
          lines.push(...document.body.innerText.split('\\n'));
          return lines.map((line) => line.trim()).filter(Boolean);
        }"""
    )
    return found


def test_the_caption_that_is_shown_draws_its_own_bits(
    serve: Callable[..., str], visit: Callable[..., Any], tmp_path: Path
) -> None:
    from pipelines.local_engine import LocalEngine
    from pipelines.request import GenerationRequest
    from pipelines.result import GenerationResult

    engine = LocalEngine(STARTER, "cpu")
    page = visit(serve(STARTER, lambda folder: engine), locale="zh-TW")
    assert page.evaluate("document.documentElement.lang") == "zh-TW"
    prompt = page.get_by_label("提示詞", exact=True)
    prompt.fill("藍色背景上的紅蘋果")
    page.locator("#tokens b").wait_for()
    caption = page.locator("#tokens b").inner_text()
    assert caption == "a red apple on a blue background"
    assert "模型不認得這些字詞" in page.locator("#tokens").inner_text()
    page.screenshot(path=tmp_path / "words.png")
    page.get_by_role("button", name=text_of("READ_SO")).click()
    page.wait_for_function("document.querySelector('#prompt textarea').value.startsWith('a red')")
    page.locator("#tokens b").wait_for(state="detached")
    assert prompt.input_value() == caption
    page.get_by_label("種子", exact=False).first.fill("7")
    page.locator("#steps input[type=number]").fill("4")
    page.get_by_role("button", name="產生", exact=True).click()
    page.locator(f"#stage {DONE}").wait_for()
    assert "完成" in page.locator("#stage").inner_text()
    address = page.locator("#stage img").first.get_attribute("src")
    *_, drawn = engine.generate(
        GenerationRequest.from_options({"prompt": caption, "seed": 7, "steps": 4}, read_defaults(STARTER))
    )
    assert isinstance(drawn, GenerationResult)
    with Image.open(unquote(address.partition("file=")[2])) as picture:
        assert picture.convert("RGB").tobytes() == drawn.images[0].convert("RGB").tobytes()


def test_no_english_is_left_on_any_tab_and_the_choice_of_a_language_stays(
    serve: Callable[..., str], visit: Callable[..., Any], tiny_model_folder: Path, tmp_path: Path
) -> None:
    page = visit(serve(tiny_model_folder, PacedEngine), locale="zh-TW")
    page.get_by_label("提示詞", exact=True).fill("a red apple")
    page.get_by_role("button", name="產生", exact=True).click()
    page.locator(f"#stage {DONE}").wait_for()
    left: list[tuple[str, str]] = []
    for number, tab in enumerate(page.locator("#tabs > .tab-wrapper [role=tab]").all_inner_texts()):
        page.get_by_role("tab", name=tab, exact=True).first.click()
        page.wait_for_timeout(1000)
        page.evaluate(UNFOLD)
        for width, height in ((375, 812), (1280, 900)):
            page.set_viewport_size({"width": width, "height": height})
            page.wait_for_timeout(300)
            page.screenshot(path=tmp_path / f"{number}-{width}.png", full_page=width == 375)
            assert page.evaluate("document.documentElement.scrollWidth - window.innerWidth") <= 0
        lines = [line for line in seen(page) if not line.startswith(text.TITLE)]
        left += [(words, line) for words in english_words() for line in lines if line.startswith(words)]
    assert left == []

    page.get_by_role("button", name="English", exact=True).click()
    page.get_by_role("button", name="Generate", exact=True).wait_for()
    assert page.evaluate("document.documentElement.lang") == "en"
    page.reload()  # whatever the browser prefers
    page.get_by_role("button", name="Generate", exact=True).wait_for()
    assert page.locator('.ls-languages [aria-pressed="true"]').inner_text() == "English"
    page.get_by_role("button", name="繁體中文", exact=True).click()
    page.get_by_role("button", name="產生", exact=True).wait_for()
    assert page.evaluate("document.documentElement.lang") == "zh-TW"


def text_of(name: str) -> str:
    from app.language import translation

    return str(translation("zh-TW")[name])


def test_two_visitors_read_the_page_in_their_own_language_at_the_same_time(
    serve: Callable[..., str], visit: Callable[..., Any], tiny_model_folder: Path
) -> None:
    url = serve(tiny_model_folder, lambda folder: PacedEngine(folder, seconds=0.1))
    chinese, english = visit(url, locale="zh-TW"), visit(url, locale="en-GB")
    both = ((chinese, "產生", "提示詞", "完成", "zh-TW"), (english, "Generate", "Prompt", "Done in", "en"))
    for page, generate, prompt, _, lang in both:
        assert page.evaluate("document.documentElement.lang") == lang
        page.get_by_label(prompt, exact=True).fill("a red apple")
        page.get_by_role("button", name=generate, exact=True).click()
    for page, _, _, done, _ in both:
        page.locator(f"#stage {DONE}").wait_for()
        assert done in page.locator("#stage").inner_text()
    chinese.get_by_label("提示詞", exact=True).fill("")  # a handler's error, too
    chinese.get_by_role("button", name="產生", exact=True).click()
    chinese.get_by_text("提示詞是空的", exact=False).first.wait_for()
