"""The History tab in a real browser: each test looks at what has become of files, rows and the form."""

import json
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from app.database import Database
from pipelines.metadata.settings import read_settings
from pipelines.png import save_png
from tests.app.engines import PacedEngine, a_request
from tests.app.test_browser import DONE, overflow_pixels
from tests.pipelines.metadata.pictures import COMFYUI, comfyui_png, node, png

pytestmark = pytest.mark.slow

PROMPTS = ("a red apple", "a green frog", "a red boat <b>at</b> sea")


def draw(folder: Path, prompt: str, seed: int, **changes: object) -> Path:
    """A picture as the command line leaves it, which every browser on this machine may see."""
    path = folder / f"drawn-{seed}.png"
    request = a_request(prompt, seed=seed, **changes)
    save_png(Image.new("RGB", (32, 32), (seed, 90, 120)), path, request, model_name="tiny", model_id="1")
    return path


@pytest.fixture
def page(
    serve: Callable[..., str], visit: Callable[..., Any], tiny_model_folder: Path, tmp_path: Path
) -> Any:
    for seed, prompt in enumerate(PROMPTS):
        draw(tmp_path, prompt, seed, negative_prompt="blue", steps=10 + seed, width=64, sampler="DDIM")
    return to_history(visit(serve(tiny_model_folder, PacedEngine)))


def to_history(page: Any) -> Any:
    page.get_by_role("tab", name="History").click()
    page.locator("#grid img").first.wait_for()
    return page


def shown(page: Any) -> list[str]:
    return [
        alt.partition(",")[0] for alt in page.locator("#grid img").evaluate_all("all => all.map(e => e.alt)")
    ]


def wait_for_pictures(page: Any, count: int) -> None:
    page.wait_for_function(f"document.querySelectorAll('#grid img').length === {count}")


def open_picture(page: Any, prompt: str) -> None:
    page.locator(f'#grid button[title^="{prompt}"]').click()
    page.locator("#opened .ls-prompt").get_by_text(prompt).wait_for()


def rows(folder: Path, columns: str) -> list[tuple[Any, ...]]:
    database = Database(folder / "studio.sqlite3")
    found = [tuple(row) for row in database.read(f"SELECT {columns} FROM pictures ORDER BY id")]
    database.close()
    return found


def field(page: Any, name: str) -> str:
    return str(page.locator(f"#{name} textarea, #{name} input").first.input_value())


def wait_for_fields(page: Any, **values: str) -> None:
    """Until the form says so: its controls show what one answer brings one after the other."""
    page.wait_for_function(
        "values => Object.entries(values).every(([name, value]) => "
        "document.querySelector(`#${name} textarea, #${name} input`)?.value === value)",
        arg=values,
    )


def test_pictures_are_found_by_words_and_settings(page: Any) -> None:
    assert sorted(shown(page)) == sorted(PROMPTS)
    page.locator("#found").get_by_text("1 to 3 of 3").wait_for()
    page.get_by_label("Search your pictures").fill("RED")
    wait_for_pictures(page, 2)
    page.get_by_label("Search your pictures").press_sequentially(" seed:2")
    wait_for_pictures(page, 1)
    assert shown(page) == ["a red boat <b>at</b> sea"]
    page.get_by_label("Search your pictures").fill("steps:10-11 sampler:ddim")
    wait_for_pictures(page, 2)
    page.get_by_label("Search your pictures").fill("purple")
    page.locator("#found").get_by_text("No picture is like that.").wait_for()


def test_a_favourite_stays_one_after_a_reload_and_a_lost_index(page: Any, tmp_path: Path) -> None:
    open_picture(page, "a green frog")
    page.get_by_role("button", name="Add to favourites").click()
    page.get_by_role("button", name="Remove from favourites").wait_for()
    page.wait_for_function("document.querySelectorAll('#grid .ls-star').length === 1")
    assert rows(tmp_path, "id, favourite") == [("drawn-0", 0), ("drawn-1", 1), ("drawn-2", 0)]
    assert (tmp_path / "favourites.txt").read_text() == "drawn-1\n"
    page.reload()
    to_history(page)
    page.get_by_label("Favourites only").check()
    wait_for_pictures(page, 1)
    assert shown(page) == ["a green frog"]
    open_picture(page, "a green frog")
    page.get_by_role("button", name="Remove from favourites").click()
    page.locator("#found").get_by_text("No picture is like that.").wait_for()
    assert (tmp_path / "favourites.txt").read_text() == ""


def test_all_settings_of_a_picture_go_into_the_form_or_one_alone(page: Any) -> None:
    open_picture(page, "a red apple")
    page.locator("#opened").get_by_role("button", name="10", exact=True).click()  # its steps
    page.locator("#generate").wait_for(state="visible")
    page.wait_for_function("document.querySelector('#steps input').value === '10'")
    assert (field(page, "prompt"), field(page, "seed")) == ("", "-1")
    to_history(page)
    page.get_by_role("button", name="Use these settings").click()
    page.locator("#generate").wait_for(state="visible")
    wait_for_fields(
        page, prompt="a red apple", seed="0", negative="blue", sampler="DDIM", width="64", height="32"
    )
    page.wait_for_function("document.activeElement.closest('#prompt') !== null")
    page.keyboard.press("Enter")  # and it can be drawn again
    page.locator(f"#stage {DONE}").wait_for()
    to_history(page)
    wait_for_pictures(page, 4)


def test_deleting_asks_first_and_takes_file_row_and_link(page: Any, tmp_path: Path) -> None:
    open_picture(page, "a red apple")
    address = page.locator("#opened img").get_attribute("src")
    page.locator("#delete").click()
    page.get_by_text("Delete this picture for good?").wait_for()
    page.wait_for_function("document.activeElement.id === 'delete-no'")  # Enter does no harm
    page.keyboard.press("Enter")
    page.locator("#confirm").wait_for(state="hidden")
    assert (tmp_path / "drawn-0.png").exists()
    page.locator("#delete").click()
    page.get_by_role("button", name="Yes, delete").click()
    wait_for_pictures(page, 2)
    assert not (tmp_path / "drawn-0.png").exists()
    assert rows(tmp_path, "id") == [("drawn-1",), ("drawn-2",)]
    answer = page.request.get(page.url.split("?")[0] + address)
    assert answer.status in (403, 404)
    page.get_by_text("Click a picture to see its settings.").wait_for()


def test_several_are_chosen_downloaded_and_deleted(page: Any, tmp_path: Path) -> None:
    page.locator("#download-chosen:disabled").wait_for()
    for prompt in PROMPTS[:2]:
        page.get_by_role("checkbox", name=f"Choose: {prompt}").check()
    page.get_by_text("2 pictures chosen").wait_for()
    page.get_by_label("File names").fill("[prompt] [seed]/../x")
    with page.expect_download() as download:
        page.get_by_role("button", name="Download chosen").click()
    download.value.save_as(tmp_path / "mine.zip")
    with zipfile.ZipFile(tmp_path / "mine.zip") as archive:
        assert sorted(archive.namelist()) == ["a-green-frog-1-x.png", "a-red-apple-0-x.png"]
        assert archive.read("a-red-apple-0-x.png") == (tmp_path / "drawn-0.png").read_bytes()
    page.get_by_role("button", name="Choose this page").click()
    page.get_by_text("3 pictures chosen").wait_for()
    page.wait_for_function("document.querySelectorAll('#grid input:checked').length === 3")
    page.get_by_role("checkbox", name=f"Choose: {PROMPTS[2]}").uncheck()
    page.get_by_text("2 pictures chosen").wait_for()
    page.get_by_role("button", name="Delete chosen").click()
    page.get_by_text("Delete 2 pictures for good?").wait_for()
    page.get_by_role("button", name="Yes, delete").click()
    wait_for_pictures(page, 1)
    assert shown(page) == [PROMPTS[2]]
    assert [path.name for path in sorted(tmp_path.glob("drawn-*"))] == ["drawn-2.png"]
    page.locator("#download-chosen:disabled").wait_for()


@pytest.mark.parametrize(("format", "suffix"), [("JPEG", "jpg"), ("WebP", "webp")])
def test_one_is_downloaded_in_another_format_with_its_settings(
    page: Any, tmp_path: Path, format: str, suffix: str
) -> None:
    open_picture(page, "a green frog")
    page.locator("#format").get_by_text(format, exact=True).click()
    with page.expect_download() as download:
        page.locator("#download").click()
    name = download.value.suggested_filename
    drawn = time.localtime((tmp_path / "drawn-1.png").stat().st_mtime)
    assert name == f"{time.strftime('%Y-%m-%d', drawn)}-1-a-green-frog.{suffix}"
    download.value.save_as(tmp_path / name)
    settings = read_settings(tmp_path / name)
    assert settings is not None
    assert settings.request == a_request(
        "a green frog", seed=1, negative_prompt="blue", steps=11, width=64, sampler="DDIM"
    )
    with Image.open(tmp_path / name) as image:
        assert image.format == format.upper()


def test_another_programs_picture_is_read_shown_and_put_into_the_form(page: Any, tmp_path: Path) -> None:
    sampler = COMFYUI["3"]["inputs"] | {"sampler_name": "heun", "seed": 5, "denoise": 0.5}
    data = comfyui_png(COMFYUI | {"3": node("KSampler", **sampler)})
    page.locator("#drop input[type=file]").set_input_files(
        {"name": "comfy.png", "mimeType": "image/png", "buffer": data}
    )
    page.get_by_text("Drawn by ComfyUI").wait_for()
    words = page.locator("#read").inner_text()
    assert "beautiful scenery nature glass bottle" in words
    assert "Not used here" in words
    assert "denoise" in words
    page.get_by_role("button", name="Put into Generate").click()
    page.locator("#generate").wait_for(state="visible")
    page.wait_for_function("document.querySelector('#prompt textarea').value.startsWith('beautiful')")
    wait_for_fields(page, negative="text, watermark", seed="5", sampler="Heun", width="512", height="768")
    uploads = [path for path in (tmp_path / "cache").rglob("comfy*") if path.is_file()]
    assert uploads == []

    to_history(page)
    page.locator("#drop input[type=file]").set_input_files(
        {"name": "bare.png", "mimeType": "image/png", "buffer": png({})}
    )
    page.get_by_text("This file holds no settings that can be read.").wait_for()
    page.locator("#use-read").wait_for(state="hidden")


def test_a_dropped_prompt_is_text_and_a_missing_seed_random(page: Any) -> None:
    text = {"prompt": "<img src=x onerror=\"document.title='owned'\">", "base_model": "<script>1</script>"}
    page.locator("#drop input[type=file]").set_input_files(
        {"name": "a.png", "mimeType": "image/png", "buffer": png({"parameters": json.dumps(text)})}
    )
    page.get_by_text("Drawn by Fooocus").wait_for()
    assert "<img src=x" in page.locator("#read").inner_text()
    page.get_by_role("button", name="Put into Generate").click()
    page.wait_for_function("document.querySelector('#prompt textarea').value.startsWith('<img')")
    assert field(page, "seed") == "-1"
    assert page.title() == "Latent Studio"


def test_two_people_see_their_own_pictures_alone(
    serve: Callable[..., str], visit: Callable[..., Any], tiny_model_folder: Path
) -> None:
    url = serve(tiny_model_folder, PacedEngine)
    ann, ben = visit(url), visit(url)
    for person, prompt in ((ann, "a cat of ann"), (ben, "a dog of ben")):
        person.get_by_label("Prompt", exact=True).fill(prompt)
        person.keyboard.press("Enter")
        person.locator(f"#stage {DONE}").wait_for()
    assert shown(to_history(ann)) == ["a cat of ann"]
    assert shown(to_history(ben)) == ["a dog of ben"]
    ben.get_by_label("Search your pictures").fill("cat")
    ben.locator("#found").get_by_text("No picture is like that.").wait_for()


def test_many_pictures_come_in_pages(
    serve: Callable[..., str], visit: Callable[..., Any], tiny_model_folder: Path, tmp_path: Path
) -> None:
    for seed in range(50):
        draw(tmp_path, f"picture {seed}", seed)
    page = to_history(visit(serve(tiny_model_folder, PacedEngine)))
    wait_for_pictures(page, 48)
    first = shown(page)
    page.get_by_role("button", name="Newer", disabled=True).wait_for()
    page.get_by_role("button", name="Older").click()
    wait_for_pictures(page, 2)
    page.get_by_text("49 to 50 of 50").wait_for()
    assert sorted(first + shown(page)) == sorted(f"picture {seed}" for seed in range(50))
    page.get_by_role("button", name="Older", disabled=True).wait_for()
    page.get_by_role("button", name="Newer").click()
    wait_for_pictures(page, 48)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_shows_it_without_sideways_scrolling_and_all_is_named(
    serve: Callable[..., str], visit: Callable[..., Any], tiny_model_folder: Path, tmp_path: Path, scheme: str
) -> None:
    for seed in range(5):
        draw(tmp_path, "a-very-long-word-" * 12, seed)
    page = to_history(visit(serve(tiny_model_folder, PacedEngine), width=375, color_scheme=scheme))
    page.locator("#grid button").first.click()
    page.locator("#opened img").wait_for()
    page.locator("#delete").click()
    page.locator("#confirm").wait_for()
    assert overflow_pixels(page) <= 0
    nameless = page.evaluate(
        """() => [...document.querySelectorAll('button, input, textarea, select, img')].filter(e =>
        e.getClientRects().length && !(e.innerText || e.ariaLabel || e.alt || e.title || e.labels?.length
        || e.getAttribute('aria-labelledby'))).map(e => e.outerHTML.slice(0, 200))"""
    )
    assert nameless == []


def test_the_keyboard_reaches_opens_and_ticks_a_picture(page: Any) -> None:
    page.get_by_label("Search your pictures").focus()
    for _ in range(3):  # past the box of favourites, to the first picture and its own box
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.hasAttribute('data-id')"):
            break
    page.keyboard.press("Enter")
    page.locator("#opened img").wait_for()
    page.keyboard.press("Tab")
    page.keyboard.press("Space")
    page.get_by_text("1 picture chosen").wait_for()
