"""What keys and the large view do, in a real browser."""

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.app.engines import PacedEngine

pytestmark = pytest.mark.slow
DONE = '[data-state="done"]'


ALL = 10_000  # steps, more than any test has


@pytest.fixture
def page(
    serve: Callable[..., str], visit: Callable[..., Any], tiny_model_folder: Path, gate: threading.Semaphore
) -> Iterator[Any]:
    """A page whose engine draws a step for each release of the gate: no machine is too slow to look on."""
    engine = PacedEngine(tiny_model_folder, gate, seconds=0.02)
    engine.at_once = 1
    yield visit(serve(tiny_model_folder, lambda folder: engine))
    gate.release(ALL)


def test_ctrl_and_arrows_change_the_weight_of_words(page: Any, gate: threading.Semaphore) -> None:
    gate.release(ALL)
    prompt = page.get_by_label("Prompt", exact=True)
    prompt.fill("a red apple on a (big:1.5) table")
    for start, end, key, expected in (
        (2, 11, "ArrowUp", "a (red apple:1.1) on a (big:1.5) table"),
        (None, None, "ArrowUp", "a (red apple:1.2) on a (big:1.5) table"),
        (4, 4, "ArrowDown", "a (red apple:1.1) on a (big:1.5) table"),
        (4, 4, "ArrowDown", "a red apple on a (big:1.5) table"),
        (19, 19, "ArrowDown", "a red apple on a (big:1.4) table"),
        (0, 1, "ArrowDown", "(a:0.9) red apple on a (big:1.4) table"),
    ):
        if start is not None:
            prompt.evaluate("(box, at) => box.setSelectionRange(...at)", [start, end])
        prompt.press(f"Control+{key}")
        assert prompt.input_value() == expected
    page.get_by_label("Seed (-1 is random)").fill("7")
    page.locator("#generate").click()
    page.locator(DONE).wait_for()
    assert page.locator("#details .ls-prompt").inner_text() == "(a:0.9) red apple on a (big:1.4) table"


def test_pictures_fill_the_window_and_arrows_go_on(page: Any, gate: threading.Semaphore) -> None:
    gate.release(30)
    page.get_by_label("Prompt", exact=True).fill("a cat")
    page.locator("#count input[type=number]").fill("3")
    page.locator("#steps input[type=number]").fill("60")
    page.locator("#generate").click()
    page.wait_for_function("document.title.match(/^[1-9][0-9]*% · Latent Studio$/)")
    gate.release(ALL)
    page.locator(DONE).wait_for()
    page.wait_for_function("document.title === 'Latent Studio'")
    page.locator("h1").click()
    page.keyboard.press("f")
    large = page.locator("dialog[open] img")
    seen = [large.get_attribute("src")]
    for _ in range(3):
        page.keyboard.press("ArrowRight")
        seen.append(large.get_attribute("src"))
    assert len(set(seen)) == 3
    assert seen[0] == seen[3]
    page.keyboard.press("ArrowLeft")
    assert large.get_attribute("src") == seen[2]
    large.evaluate("image => image.decode()")  # before, it takes no room
    box = large.bounding_box()
    assert box is not None
    assert box["height"] > 0.7 * 860
    page.keyboard.press("Escape")
    page.locator("dialog").wait_for(state="detached")
    page.locator("#enlarge").click()
    assert large.get_attribute("src") == seen[0]
    page.get_by_role("button", name="Close").click()
    page.locator("dialog").wait_for(state="detached")


def test_the_sheet_of_keys_opens_by_key_and_button_and_escape_stops_nothing_then(page: Any) -> None:
    page.locator("h1").click()
    page.keyboard.press("?")
    assert "weight of a selection" in page.locator("dialog[open]").inner_text()
    page.keyboard.press("Escape")
    page.locator("dialog").wait_for(state="detached")
    page.get_by_label("Prompt", exact=True).fill("is it a cat?")
    assert page.locator("dialog").count() == 0
    page.get_by_role("button", name="All keys").click()
    page.locator("dialog[open]").wait_for()


def test_jobs_in_line_are_moved_and_skip_goes_on(page: Any, gate: threading.Semaphore) -> None:
    prompt = page.get_by_label("Prompt", exact=True)
    page.locator("#count input[type=number]").fill("4")
    page.locator("#steps input[type=number]").fill("60")
    for words in ("a cat", "a dog", "a bird"):
        prompt.fill(words)
        page.locator("#generate").click()
        page.locator("#line, #status").get_by_text(words).first.wait_for(state="attached")
    bird = page.locator("#line li", has_text="a bird")
    bird.get_by_role("button", name="Earlier").click()
    order = "[...document.querySelectorAll('#line .ls-prompt')].map(e => e.textContent).join()"
    page.wait_for_function(f"{order} === 'a cat,a bird,a dog'")
    page.locator("#line li", has_text="a dog").get_by_role("button", name="Cancel").click()
    page.locator("#line li", has_text="a dog").wait_for(state="detached")
    page.locator("#skip").click()
    page.locator("#stage").get_by_text("Skipping after this step").wait_for()
    gate.release(ALL)
    page.locator("#strip button").nth(2).wait_for()
    page.locator("#line").get_by_text("a bird").wait_for(state="detached")
    assert page.locator('#strip button[title^="a cat"]').count() == 3


def test_again_and_again_draws_until_escape(page: Any, gate: threading.Semaphore) -> None:
    gate.release(3 * 8 + 1)  # three pictures, and a step of the next
    page.get_by_label("Prompt", exact=True).fill("a cat")
    page.locator("#steps input[type=number]").fill("8")
    page.get_by_label("Draw again and again").check()
    page.locator("#generate").click()
    page.locator("#strip button").nth(2).wait_for()
    page.locator('#stage [data-state="live"]').get_by_text("Step 1 of 8", exact=False).wait_for()
    page.keyboard.press("Escape")
    page.wait_for_function("!document.querySelector('#forever input').checked")
    page.locator("#stage").get_by_text("Stopping after this step").wait_for()
    gate.release(ALL)
    page.wait_for_function(
        "document.querySelector('#stop').disabled || document.querySelector('#stop button')?.disabled"
    )
    drawn = page.locator("#strip button").count()
    page.wait_for_timeout(1500)
    assert page.locator("#strip button").count() == drawn
    page.reload()
    page.wait_for_function("document.querySelector('#prompt textarea')?.value === 'a cat'")
