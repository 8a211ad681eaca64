"""The page in a real browser, behind the real doors: what a person sees, types and waits for."""

import json
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
from PIL import Image, ImageStat

from pipelines.png import read_png
from tests.app.engines import PacedEngine

pytestmark = pytest.mark.slow

STARTER = Path(__file__).parents[2] / "checkpoints" / "starter"
DONE, LIVE = '[data-state="done"]', '[data-state="live"]'


def overflow_pixels(page: Any) -> int:
    return int(page.evaluate("document.documentElement.scrollWidth - window.innerWidth"))


def shown_file(page: Any, place: str) -> Path:
    """The file behind the first picture at a place of the page."""
    address = page.locator(f"{place} img").first.get_attribute("src")
    return Path(unquote(address.partition("file=")[2]))


def test_words_become_a_picture_that_carries_its_settings(
    serve: Callable[..., str], visit: Callable[..., Any], tmp_path: Path
) -> None:
    from pipelines.local_engine import LocalEngine

    page = visit(serve(STARTER, lambda folder: LocalEngine(folder, "cpu")))
    assert page.get_by_role("heading", level=1).inner_text() == "Latent Studio"
    page.wait_for_function("document.activeElement.closest('#prompt') !== null")  # one can type at once
    page.keyboard.type("a red apple")
    page.get_by_label("number input for Pictures").fill("2")
    page.get_by_label("Seed", exact=False).first.fill("7")
    page.keyboard.press("Control+Enter")
    page.locator(f"#stage {DONE}").wait_for()
    for place in ("#stage", "#strip"):
        page.wait_for_function(f"document.querySelectorAll('{place} img').length === 2")
    natural = page.locator("#stage img").first.evaluate(
        "image => image.decode().then(() => image.naturalWidth)"
    )
    settings = read_png(shown_file(page, "#stage"))
    assert settings is not None
    assert settings.request is not None
    assert (settings.request.prompt, settings.request.seed, settings.request.width) == (
        "a red apple",
        7,
        natural,
    )

    with Image.open(shown_file(page, "#stage")) as picture:
        red, green, blue = ImageStat.Stat(picture.convert("RGB").crop((44, 56, 84, 96))).mean
        assert red > 2 * max(green, blue)
        assert min(picture.convert("RGB").getpixel((2, 2))) > 200  # type: ignore[arg-type]

    with page.expect_download() as download:  # what is downloaded has its settings too
        page.get_by_role("link", name="Download PNG").click()
    download.value.save_as(tmp_path / "mine.png")
    assert read_png(tmp_path / "mine.png") == settings

    page.get_by_label("Prompt", exact=True).fill("something else")
    page.locator("#strip button").nth(1).click()
    page.get_by_text("8", exact=True).wait_for()  # the seed of the second picture
    page.get_by_role("button", name="Reuse these settings").click()
    page.wait_for_function("document.querySelector('#seed input').value === '8'")
    page.wait_for_function("document.querySelector('#prompt textarea').value === 'a red apple'")


def test_a_reload_finds_the_running_job_and_stop_ends_it(
    serve: Callable[..., str], visit: Callable[..., Any], tiny_model_folder: Path
) -> None:
    gate = threading.Semaphore(
        3
    )  # three steps, and the job waits: no machine is too slow to reload meanwhile
    page = visit(serve(tiny_model_folder, lambda folder: PacedEngine(folder, gate)))
    page.get_by_label("number input for Steps").fill("150")
    page.get_by_label("Prompt", exact=True).fill("a green frog")
    page.keyboard.press("Enter")
    page.get_by_text("of 150", exact=False).wait_for()
    page.reload()
    page.locator(f"#stage {LIVE}").wait_for()
    page.get_by_text("of 150", exact=False).wait_for()
    assert page.get_by_label("Prompt", exact=True).input_value() == "a green frog"
    page.get_by_role("button", name="Stop", exact=True).click()
    page.get_by_text("Stopping after this step").wait_for()
    gate.release(10)  # the step it was in, and those of the next job
    page.get_by_text("Stopped. Nothing was saved.").wait_for()
    page.locator("#stop:disabled").wait_for()
    page.get_by_label("number input for Steps").fill("2")
    page.get_by_label("Prompt", exact=True).press("Enter")
    page.locator(f"#stage {DONE}").wait_for()  # the page works on
    page.reload()
    page.locator("#strip img").first.wait_for()
    assert page.locator("#strip img").count() == 1


def test_escape_stops_and_two_people_do_not_meet(
    serve: Callable[..., str], visit: Callable[..., Any], tiny_model_folder: Path
) -> None:
    gate = threading.Semaphore(0)
    url = serve(tiny_model_folder, lambda folder: PacedEngine(folder, gate))
    ann, ben = visit(url), visit(url)
    for page, prompt in ((ann, "a cat of ann"), (ben, "a dog of ben")):
        page.get_by_label("Prompt", exact=True).fill(prompt)
        page.get_by_label("number input for Steps").fill("4")
        page.get_by_role("button", name="Generate").click()
        page.locator(f"#stage {LIVE}").wait_for()
    ben.locator("#stage").get_by_text("Next in line").wait_for()
    assert "ann" not in ben.locator("#see").inner_text()
    ben.keyboard.press("Escape")
    ben.get_by_text("Stopped. Nothing was saved.").wait_for()
    gate.release(10)
    ann.locator(f"#stage {DONE}").wait_for()
    assert ben.locator("#strip img").count() == 0


def test_errors_are_one_sentence_and_prompts_stay_text(
    serve: Callable[..., str], visit: Callable[..., Any], tiny_model_folder: Path
) -> None:
    page = visit(serve(tiny_model_folder, PacedEngine))
    page.get_by_role("button", name="Generate").click()
    page.get_by_text("The prompt is empty", exact=False).first.wait_for()
    page.get_by_role("button", name="a happy cat").click()
    page.wait_for_function("document.querySelector('#prompt textarea').value === 'a happy cat'")
    page.get_by_label("Prompt", exact=True).fill("fail <img src=x onerror=\"document.title='owned'\">")
    page.get_by_role("button", name="Generate").click()
    page.locator(".ls-error").wait_for()
    assert "the numbers exploded" in page.locator(".ls-error").inner_text()
    page.get_by_label("Prompt", exact=True).fill("<img src=x onerror=\"document.title='owned'\">")
    page.get_by_role("button", name="Generate").click()
    page.locator(f"#stage {DONE}").wait_for()
    page.locator("#details").get_by_text("<img src=x").first.wait_for()
    page.wait_for_function("document.title === 'Latent Studio'")  # it tells of what is drawn, now and then


def test_schedules_and_sizes_follow_what_is_chosen(
    serve: Callable[..., str], visit: Callable[..., Any], tiny_model_folder: Path
) -> None:
    page = visit(serve(tiny_model_folder, PacedEngine))
    page.get_by_label("Sampler").click()
    page.get_by_role("option", name="DDIM", exact=True).click()
    page.get_by_label("Schedule").click()
    page.wait_for_function("document.querySelectorAll('[role=option]').length === 1")
    page.keyboard.press("Escape")
    assert not page.get_by_label("Width").is_visible()
    page.get_by_text("Custom", exact=True).click()
    page.get_by_label("Width").wait_for()
    page.get_by_label("Width").fill("50")
    page.get_by_label("Prompt", exact=True).fill("a cat")
    page.keyboard.press("Enter")
    page.get_by_text("must be a multiple of 8", exact=False).first.wait_for()


def test_the_count_follows_what_is_typed_and_styles_can_be_picked(
    serve: Callable[..., str], visit: Callable[..., Any], tiny_model_folder: Path, tmp_path: Path
) -> None:
    page = visit(serve(tiny_model_folder, PacedEngine), width=375)
    prompt, line = page.get_by_label("Prompt", exact=True), page.locator("#tokens")
    assert not page.get_by_label("Styles").is_visible()
    prompt.press_sequentially("a red apple")
    line.get_by_text("3 of 14 tokens").wait_for()
    prompt.fill("dog " * 14 + "cat")
    line.get_by_text("Not read: cat").wait_for()
    assert overflow_pixels(page) <= 0
    (tmp_path / "styles.csv").write_text("name,prompt,negative_prompt\nkitten,{prompt} on the cat,\n")
    page.reload()
    prompt.fill("a red apple")
    page.get_by_label("Styles").click()
    page.get_by_role("option", name="kitten").click()
    line.get_by_text("6 of 14 tokens").wait_for()
    page.keyboard.press("Escape")
    page.get_by_role("button", name="Generate").click()
    page.locator(f"#stage {DONE}").wait_for()
    settings = read_png(shown_file(page, "#stage"))
    assert settings is not None
    assert settings.request is not None
    assert settings.request.styles == ("kitten",)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_shows_the_page_without_sideways_scrolling(
    serve: Callable[..., str], visit: Callable[..., Any], tiny_model_folder: Path, scheme: str
) -> None:
    page = visit(serve(tiny_model_folder, PacedEngine), width=375, color_scheme=scheme)
    assert overflow_pixels(page) <= 0
    page.get_by_label("Prompt", exact=True).fill("a-very-long-word-" * 12)
    page.get_by_role("button", name="Generate").click()
    page.locator(f"#stage {DONE}").wait_for()
    page.get_by_text("Custom", exact=True).click()
    page.get_by_label("Width").wait_for()
    assert overflow_pixels(page) <= 0
    tops = [page.locator(part).bounding_box()["y"] for part in ("#ask", "#see", "#settings", "#history")]
    assert tops == sorted(tops)


def test_every_control_has_a_name(
    serve: Callable[..., str], visit: Callable[..., Any], tiny_model_folder: Path
) -> None:
    page = visit(serve(tiny_model_folder, PacedEngine))
    nameless = page.evaluate(
        """() => [...document.querySelectorAll('button, input, textarea, select, img')].filter(e =>
        e.getClientRects().length && !(e.innerText || e.ariaLabel || e.alt || e.title || e.labels?.length
        || e.getAttribute('aria-labelledby'))).map(e => e.outerHTML.slice(0, 200))"""
    )
    assert nameless == []
    polite = page.locator("#status [aria-live=polite], #status[aria-live=polite]")
    polite.first.wait_for(state="attached")
    assert polite.count() == 1


def test_how_good_the_model_is_stands_on_the_page_and_is_read_anew(
    serve: Callable[..., str], visit: Callable[..., Any], tiny_model_folder: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "model"
    shutil.copytree(tiny_model_folder, folder)
    page = visit(serve(folder, PacedEngine), width=375)
    shown = page.locator("#measured")
    assert "python launch.py evaluate diffusion" in shown.inner_text()
    found = {"top5": 0.283, "top5_interval": [0.234, 0.336], "share_top5": 0.3551}
    found |= {"ceiling_top5": 0.797, "top1": 0.12, "ceiling_top1": 0.565, "n": 300}
    (folder / "metrics.json").write_text(json.dumps({"diffusion": {"retrieval": {"train": found}}}))
    page.reload()
    shown.get_by_text("28.3% (23.4% to 33.6%)").wait_for()
    assert "36% of the 79.7% that real pictures reach; the nearest one" in shown.inner_text()
    assert overflow_pixels(page) <= 0
