"""The guided tour of docs/tour.md, walked with the real starter model; its screenshots are taken here.

LATENT_STUDIO_TOUR=docs/images/tour python launch.py test tests/app/test_browser_tour.py
"""

import io
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from pipelines.inputs import InputStore
from pipelines.local_engine import LocalEngine
from pipelines.request import GenerationRequest
from pipelines.result import GenerationResult
from tests.app.test_browser import DONE, STARTER
from tests.app.test_browser_image import until_the_editor_shows_a_picture

pytestmark = pytest.mark.slow

DOCS = Path(__file__).parents[2] / "docs"
ADDRESS = re.compile(r"\(images/tour/(\w+)\.webp\)")


class Tour:
    """A page to walk through, and the folder that its screenshots go to."""

    def __init__(self, page: Any, folder: Path) -> None:
        self.page, self.folder = page, folder
        folder.mkdir(parents=True, exist_ok=True)

    def shoot(self, name: str, seen: str, pointed_at: str = "h1") -> None:
        """Keep what is shown with `seen` in the middle and the mouse on `pointed_at`, both selectors."""
        self.page.locator(seen).first.evaluate("element => element.scrollIntoView({block: 'center'})")
        box = self.page.locator(pointed_at).last.bounding_box()
        self.page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
        self.page.wait_for_timeout(600)  # what moves comes to rest
        with Image.open(io.BytesIO(self.page.screenshot())) as picture:
            assert len(picture.convert("RGB").getcolors(1 << 24)) > 500  # the page, not a blank one
            picture.convert("RGB").save(self.folder / f"{name}.webp", quality=88, method=6)

    def tab(self, name: str) -> None:
        self.page.get_by_role("tab", name=name, exact=True).click()

    def draw(self, place: str = "#generate") -> None:
        """Press a button that draws, and wait until the stage shows other pictures than before."""
        shown = self.page.locator("#stage img")
        before = shown.first.get_attribute("src") if shown.count() else ""
        self.page.locator(place).click()
        self.page.wait_for_function(
            "before => { const image = document.querySelector('#stage [data-state=\"done\"] img');"
            " return image && image.getAttribute('src') !== before; }",
            arg=before,
        )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return Path(os.environ.get("LATENT_STUDIO_TOUR", tmp_path / "tour")).absolute()


def test_the_tour_draws_compares_and_looks_inside(
    serve: Callable[..., str],
    visit: Callable[..., Any],
    tmp_path: Path,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("LATENT_STUDIO_RUNS", str(tmp_path / "runs"))
    store = InputStore(tmp_path / "inputs")
    url = serve(STARTER, lambda folder: LocalEngine(folder, "cpu", inputs=store))
    page = visit(url)
    tour = Tour(page, folder)

    page.get_by_label("Prompt", exact=True).fill("a (red:1.2) apple")
    page.get_by_label("number input for Pictures").fill("4")
    page.get_by_label("number input for Steps").first.fill("10")
    page.get_by_label("Seed (-1 is random)").fill("7")
    tour.draw()
    tour.shoot("generate", "h1")

    tour.page.locator("#start-from").click()
    page.locator("#editor canvas").first.wait_for()
    until_the_editor_shows_a_picture(page)
    page.get_by_label("Prompt", exact=True).fill("a green apple")
    page.get_by_label("number input for Strength").first.fill("0.8")
    page.get_by_label("number input for Pictures").fill("1")
    tour.draw()
    page.locator("#before-after").wait_for()
    tour.shoot("image", "#before-after")

    tour.tab("Compare")
    for number, setting, values in ((1, "Seed", "7-9"), (2, "Words", "green, red")):
        page.locator(f"#axis-{number} input").click()
        page.locator(f"#axis-{number}").get_by_role("option", name=setting, exact=True).click()
        page.locator(f"#values-{number} textarea").fill(values)
    page.locator("#draw-comparison").click()
    page.locator(f"#sheet {DONE} .ls-sheet img").wait_for()
    tour.shoot("compare", "#sheet")

    tour.tab("Generate")
    page.locator("#strip button").last.click()
    page.locator("#look").click()
    page.locator("#inside-words .ls-word").first.wait_for()
    tour.shoot("inside", "#inside-words", pointed_at="#inside-words .ls-word")
    page.locator("#inside-words .ls-word").last.hover()  # should the page have moved below the mouse
    page.locator("#inside-words .ls-shade").wait_for()

    tour.tab("History")
    page.locator("#grid img").first.wait_for()
    page.locator("#grid button").nth(1).click()
    page.locator("#opened img").wait_for()
    tour.shoot("history", "h1")


@pytest.mark.exhaustive
def test_the_tour_trains_and_teaches(
    serve: Callable[..., str],
    visit: Callable[..., Any],
    tmp_path: Path,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("LATENT_STUDIO_RUNS", str(tmp_path / "runs"))
    pictures, engine = tmp_path / "my apples", LocalEngine(STARTER, "cpu")
    pictures.mkdir()
    options = {"prompt": "a green apple", "count": 4, "seed": 7, "steps": 8}
    *_, drawn = engine.generate(GenerationRequest.from_options(options, engine.model.defaults))
    assert isinstance(drawn, GenerationResult)
    for number, image in enumerate(drawn.images):
        image.save(pictures / f"my apple {number}.png")
    tour = Tour(visit(serve(STARTER, lambda folder: engine)), folder)
    page = tour.page

    tour.tab("Train")
    page.get_by_label("Folder of pictures, or a .zip of one").fill(str(pictures))
    page.locator("#train-look").click()
    page.locator("#train-dataset img").first.wait_for()
    page.get_by_role("button", name="How it is trained").click()
    page.get_by_label("Preset").click()
    page.get_by_role("option", name="tiny-diffusion").click()
    page.get_by_label("Counted in").click()
    page.get_by_role("option", name="steps", exact=True).click()
    page.get_by_label("For how long").fill("30")
    page.get_by_label("Other settings").fill(
        "training.log_every_steps=1\ntraining.batch_size=4\ntraining.sample_pictures=4\ntraining.sample_every_steps=30"
    )
    page.get_by_role("button", name="How it is trained").click()
    page.locator("#train-start").click()
    page.locator('#train-card [data-state="running"]').wait_for(timeout=600_000)
    page.locator('#train-card [data-state="finished"]').wait_for(timeout=600_000)
    page.locator("#train-samples img").first.wait_for()
    tour.shoot("train", "h1")
    page.get_by_role("button", name="Teach it a thing").click()
    page.locator("#teach-pictures input[type=file]").set_input_files(sorted(pictures.glob("*.png")))
    page.get_by_label("Its name").fill("my apple")
    tour.shoot("teach", "h1")


def test_the_tour_ends_with_the_models_and_in_chinese(
    serve: Callable[..., str],
    visit: Callable[..., Any],
    tmp_path: Path,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("LATENT_STUDIO_RUNS", str(tmp_path / "runs"))
    url = serve(STARTER, lambda folder: LocalEngine(folder, "cpu"))
    tour = Tour(visit(url), folder)
    page = tour.page
    tour.tab("Models")
    page.locator("#model-list").get_by_text("22.5 M").first.wait_for()
    tour.shoot("models", "h1")

    chinese = Tour(visit(url, width=375, locale="zh-TW", color_scheme="dark"), folder)
    chinese.page.locator("#prompt textarea").fill("藍色背景上的帆船")
    chinese.page.locator("#tokens").get_by_text("sailboat").wait_for()
    chinese.shoot("chinese", "#prompt")


def told() -> set[str]:
    """The screenshots that the tour is told with."""
    return set(ADDRESS.findall((DOCS / "tour.md").read_text(encoding="utf-8")))


def test_every_screenshot_of_the_tour_is_in_the_docs() -> None:
    assert {file.stem for file in (DOCS / "images" / "tour").glob("*.webp")} == told()
