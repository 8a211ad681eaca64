"""A thing is taught on the page, in a real browser, and drawn by its name with what was learned."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from app.settings import Settings
from pipelines.local_engine import LocalEngine
from pipelines.png import read_png
from tests.app.test_browser import DONE, shown_file
from tests.training.training_data import picture

pytestmark = pytest.mark.slow


def test_a_thing_is_taught_from_pictures_and_drawn_by_its_name(
    serve: Callable[..., str],
    visit: Callable[..., Any],
    tmp_path: Path,
    tiny_model_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("LATENT_STUDIO_RUNS", str(tmp_path / "runs"))
    monkeypatch.delenv("LATENT_STUDIO_LORAS", raising=False)
    pictures = [picture(tmp_path / f"{number}.png", colour=(200, 10 * number, 20)) for number in range(3)]
    files = Settings(outputs=tmp_path).prompt_files
    page = visit(serve(tiny_model_folder, lambda folder: LocalEngine(folder, "cpu", files=files)))
    page.get_by_label("Seed (-1 is random)").fill("7")
    page.get_by_label("Prompt", exact=True).fill("zorp")
    page.locator("#generate").click()
    page.locator(f"#stage {DONE}").wait_for()
    plain = shown_file(page, "#stage").read_bytes()

    page.get_by_role("tab", name="Train", exact=True).click()
    page.get_by_role("button", name="Teach it a thing").click()
    page.locator("#teach-start").click()
    page.get_by_text("Choose 1 to 20 pictures of the thing first.").wait_for()
    page.locator("#teach-pictures input[type=file]").set_input_files(pictures)
    page.get_by_label("Its name").fill("zorp")
    page.get_by_label("number input for Minutes").fill("1")
    page.locator("#teach-pictures tr").nth(2).wait_for()  # all of them have arrived
    page.locator("#teach-start").click()
    page.locator("#teach-preview img").wait_for(timeout=300_000)
    page.locator('#teach-card [data-state="finished"]').wait_for(timeout=300_000)

    page.get_by_role("button", name="Draw it in Generate").click()
    prompt = page.get_by_label("Prompt", exact=True)
    page.wait_for_function("document.querySelector('#prompt textarea').value === 'zorp <lora:zorp:0.7>'")
    prompt.wait_for()
    page.locator("#lora").wait_for()
    before = page.locator("#stage img").first.get_attribute("src")
    page.locator("#generate").click()
    page.wait_for_function(
        "before => { const image = document.querySelector('#stage [data-state=\"done\"] img');"
        " return image && image.getAttribute('src') !== before; }",
        arg=before,
    )
    drawn = shown_file(page, "#stage")
    settings = read_png(drawn)
    assert settings is not None
    assert settings.request is not None
    assert settings.request.prompt == "zorp <lora:zorp:0.7>"
    assert drawn.read_bytes() != plain
