import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gradio as gr
import pytest

from app.context import Context, open_context
from app.database import Database
from app.gradio_server import prepare_environment
from app.hosts import Hosts
from app.library import Library
from app.security import set_password
from app.settings import Settings
from app.tabs.generate import GenerateTab
from tests.app.doors import PASSWORD, Studio, start
from tests.app.engines import PacedEngine
from tests.app.forms import OpenTab
from tests.ports import quiet_port

CHROMIUM = Path("/usr/bin/chromium")
BROWSER_MILLISECONDS = 180_000  # two cores may have other work


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    path = tmp_path_factory.mktemp("doors")
    kept = dict(os.environ)
    prepare_environment(path)
    yield path
    os.environ.clear()
    os.environ.update(kept)


@pytest.fixture(scope="module")
def auth_file(folder: Path) -> Path:
    set_password(folder / "people.txt", "ann", PASSWORD)
    return folder / "people.txt"


@pytest.fixture(scope="module")
def closed(auth_file: Path) -> Iterator[Studio]:
    """A server that asks for a password."""
    studio = start(auth_file)
    yield studio
    studio.demo.close(verbose=False)


@pytest.fixture(scope="module")
def opened(folder: Path) -> Iterator[Studio]:
    """A server of one person on one machine, without passwords."""
    studio = start(None)
    yield studio
    studio.demo.close(verbose=False)


@pytest.fixture(scope="module")
def cookie(closed: Studio) -> str:
    return closed.log_in()


@pytest.fixture
def gate() -> threading.Semaphore:
    return threading.Semaphore(0)


@pytest.fixture
def open_tab(tmp_path: Path, tiny_model_folder: Path) -> Iterator[OpenTab]:
    contexts: list[Context] = []

    def build(
        open_engine: Callable[[Path], Any] = PacedEngine, models: int = 1, **limits: Any
    ) -> GenerateTab:
        folders = [tiny_model_folder] * models
        settings = Settings(outputs=tmp_path, **limits)
        contexts.append(open_context(folders, open_engine, settings=settings))
        with gr.Blocks(analytics_enabled=False):
            return GenerateTab(contexts[-1])

    yield build
    for context in contexts:
        context.close()


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    if not CHROMIUM.exists():
        pytest.fail("The browser tests need Chromium: apt-get install chromium")
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        pytest.fail("The browser tests need Playwright: pip install -r requirements-dev.txt")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=str(CHROMIUM), args=["--no-sandbox"], timeout=BROWSER_MILLISECONDS
        )
        yield browser
        browser.close()


@pytest.fixture
def serve(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., str]]:
    from app.gradio_server import Doors, launch
    from app.page import build_page
    from app.server import free_port

    for name in [name for name in os.environ if name.startswith("GRADIO_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "cache"))
    prepare_environment(tmp_path)
    running: list[tuple[Any, Context]] = []

    def start(folder: Path, open_engine: Callable[[Path], Any], **limits: Any) -> str:
        context = open_context([folder], open_engine, settings=Settings(outputs=tmp_path, **limits))
        page, look = build_page(context)
        running.append((page, context))
        host = "127.0.0.1"
        return launch(page, Doors(host, free_port(host, quiet_port()), Hosts(host, ()), None), **look)

    yield start
    for page, context in running:
        page.close(verbose=False)
        context.close()


# What Gradio's own script says of its streams when a page is left in the middle of a job, and of its calls
# when it is left at that moment.
LEFT_EARLY = ("BodyStreamBuffer was aborted", "Connection errored out", "AbortError: signal is aborted")
LEAVING = ("Failed to fetch", "network error")
# The name of the browser comes with the answer that fills the page.
IS_KNOWN = "localStorage.getItem('latent-studio-owner') !== null"


@pytest.fixture
def visit(chromium: Any) -> Iterator[Callable[..., Any]]:
    """Opens pages; at the end, none of them may have logged an error or asked for anything elsewhere."""
    contexts, complaints, leaving = [], [], set()

    def complain(page: Any, words: str) -> None:
        expected = LEFT_EARLY + (LEAVING if page in leaving else ())
        if not any(said in words for said in expected):
            complaints.append(words)

    def look_at(page: Any, request: Any, home: str) -> None:
        if request.is_navigation_request():
            leaving.add(page)
        if outside(request.url, home):
            complaints.append(request.url)

    def open_page(url: str, width: int = 1280, **options: Any) -> Any:
        context = chromium.new_context(viewport={"width": width, "height": 860}, **options)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(BROWSER_MILLISECONDS)
        page.on("console", lambda said: complain(page, said.text) if said.type == "error" else None)
        page.on("pageerror", lambda error: complain(page, str(error)))
        page.on("request", lambda request: look_at(page, request, url))
        page.on("domcontentloaded", lambda _: leaving.discard(page))
        page.goto(url)
        page.locator("#prompt textarea").wait_for()
        page.locator(".ls-stage").wait_for()
        page.wait_for_function(IS_KNOWN)  # what is done before would be another browser's
        return page

    yield open_page
    for context in contexts:
        leaving.update(context.pages)
        context.close()
    assert complaints == []


def outside(url: str, home: str) -> bool:
    return not url.startswith((home, "data:", "blob:"))


@pytest.fixture
def library(tmp_path: Path) -> Iterator[Library]:
    database = Database(tmp_path / "studio.sqlite3")
    yield Library(tmp_path, database)
    database.close()
