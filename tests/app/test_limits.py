"""Each limit of the table in docs/security.md: one more is refused in a sentence, and the next works."""

import dataclasses
import json
import re
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from app import limits
from app.security import set_password
from app.settings import Settings
from pipelines.remote_server import PICTURES_AT_ONCE
from pipelines.request import (
    MAX_COUNT,
    MAX_GUIDANCE_SCALE,
    MAX_PROMPT_CHARACTERS,
    MAX_SEED,
    MAX_SIZE_PIXELS,
    MAX_STEPS,
    MAX_STYLES,
    MIN_SIZE_PIXELS,
)
from tests.app.api.studio import ApiStudio
from tests.app.doors import BASIC, PASSWORD, Studio
from tests.app.engines import PacedEngine
from tests.app.test_middleware_files import FILE_HEAD
from tests.app.whole import JSON, Page, whole_studio

pytestmark = pytest.mark.slow
PAGE = Path(__file__).parents[2] / "docs" / "security.md"
ANN = {"Authorization": BASIC}
OVER: dict[str, dict[str, Any]] = {
    "prompt": {"prompt": "a" * (MAX_PROMPT_CHARACTERS + 1)},
    "negative_prompt": {"negative_prompt": "a" * (MAX_PROMPT_CHARACTERS + 1)},
    "width": {"size": f"{MAX_SIZE_PIXELS + 8}x32"},
    "height": {"size": f"32x{MAX_SIZE_PIXELS + 8}"},
    "too narrow": {"size": f"{MIN_SIZE_PIXELS - 8}x32"},
    "steps": {"steps": MAX_STEPS + 1},
    "guidance_scale": {"guidance_scale": MAX_GUIDANCE_SCALE + 0.1},
    "n": {"n": PICTURES_AT_ONCE + 1},
    "seed": {"seed": MAX_SEED + 1},
    "styles": {"styles": ["a"] * (MAX_STYLES + 1)},
    "partial_images": {"partial_images": MAX_STEPS + 1},
}


@pytest.fixture(scope="module")
def gate() -> threading.Semaphore:
    return threading.Semaphore(0)


@pytest.fixture(scope="module")
def whole(
    tmp_path_factory: pytest.TempPathFactory, tiny_model_folder: Path, gate: threading.Semaphore
) -> Iterator[ApiStudio]:
    """A server of two people, whose engine draws a step for each release of the gate."""
    outputs = tmp_path_factory.mktemp("limits")
    for user in ("ann", "bob"):
        set_password(outputs / "people.txt", user, PASSWORD)

    def open_engine(folder: Path) -> PacedEngine:
        return PacedEngine(folder, gate)

    limits = {"queued_jobs_per_owner": 2, "queued_jobs_total": 3}
    with whole_studio(outputs, tiny_model_folder, open_engine, outputs / "people.txt", **limits) as studio:
        yield studio
        gate.release(10_000)


def is_sentence(text: str) -> bool:
    return len(text) < 400 and text[0].isupper() | text[0].islower() and text.endswith(".")


@pytest.mark.parametrize("over", OVER)
def test_an_order_over_a_limit_is_refused_and_the_next_is_drawn(
    whole: ApiStudio, gate: threading.Semaphore, over: str
) -> None:
    status, answer = whole.order(ANN, **OVER[over])
    assert status == 400
    assert is_sentence(answer["error"]["message"]), answer
    gate.release(1)
    assert whole.order(ANN, steps=1)[0] == 200


@pytest.mark.parametrize(
    "over",
    [{"prompt": "a" * (MAX_PROMPT_CHARACTERS + 1)}, {"steps": MAX_STEPS + 1}, {"count": MAX_COUNT + 1},
     {"seed": MAX_SEED + 1}, {"steps": "many"}],
)  # fmt: skip
def test_the_page_refuses_the_same_whatever_is_sent_past_its_controls(
    whole: ApiStudio, over: dict[str, Any]
) -> None:
    page = Page(whole.studio, "past", **ANN)
    wrong = page.press("generate", **{"prompt": "a red apple", "steps": 1, "seed": 1, **over})
    assert wrong.status == 200
    assert not wrong.succeeded
    assert whole.context.jobs.active("user:ann") == []


def in_background(count: int, what: Callable[[], Any]) -> list[Any]:
    answers: list[Any] = []
    for _ in range(count):
        threading.Thread(target=lambda: answers.append(what()), daemon=True).start()
    return answers


def until(what: Callable[[], Any]) -> None:
    for _ in range(2400):
        if what():
            return
        time.sleep(0.05)
    raise AssertionError("it did not come to that")


def test_the_queue_is_bounded_for_one_person_and_for_all(whole: ApiStudio, gate: threading.Semaphore) -> None:
    def of(user: str) -> dict[str, str]:
        return {"Authorization": f"Bearer {user}:{PASSWORD}"}

    jobs = whole.context.jobs
    until(lambda: not jobs.active("api:ann", looks=True))
    drawn = in_background(1, lambda: whole.order(of("ann"), steps=1))
    until(lambda: len(jobs.active("api:ann", looks=True)) == 1 and not jobs._queue)  # it no longer waits
    drawn_too = in_background(2, lambda: whole.order(of("ann"), steps=1))
    until(lambda: len(jobs.active("api:ann", looks=True)) == 3)
    status, own = whole.order(of("ann"), steps=1)
    assert (status, own["error"]["message"]) == (
        429, "The queue is full: 2 of your jobs wait already. Let one finish first.",
    )  # fmt: skip
    other = in_background(1, lambda: whole.order(of("bob"), steps=1))  # who is not kept out by that
    until(lambda: len(jobs.active("api:bob", looks=True)) == 1)
    status, full = whole.order(of("bob"), steps=1)
    assert (status, full["error"]["message"]) == (
        429, "The queue is full: 3 jobs wait already. Try again in a moment.",
    )  # fmt: skip
    gate.release(4)
    until(lambda: len([*drawn, *drawn_too, *other]) == 4)
    assert {status for status, _ in [*drawn, *drawn_too, *other]} == {200}


def test_bodies_files_and_logins_are_bounded(whole: ApiStudio) -> None:
    ask = whole.studio.ask
    for _, path in dict.fromkeys(("POST", path) for _, path in whole.studio.routes):
        over = ask("POST", path, b"x", Content_Length=str(limits.MAX_BODY_BYTES + 1), **ANN)
        if path not in ("/login", "/logout", "/gradio_api/proxy=x", "/proxy=x"):  # which read no body
            assert over.status == 413, path
    body = FILE_HEAD % b"big.png" + bytes(limits.MAX_FILE_BYTES + 1) + b"\r\n--b--\r\n"
    kind = "multipart/form-data; boundary=b"
    assert ask("POST", "/gradio_api/upload", body, Content_Type=kind, **ANN).status == 413
    login = json.dumps({"user": "ann", "password": "x" * limits.MAX_LOGIN_BYTES}).encode()
    assert ask("POST", "/login", login, Content_Type=JSON).status == 400
    assert ask("GET", "/config", **ANN).status == 200


def test_no_more_requests_are_open_at_once_than_may_be(whole: ApiStudio, gate: threading.Semaphore) -> None:
    guard: Any = whole.studio.demo.server_app.middleware_stack
    counted = guard._inside
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(counted, "per_person", 2)
        held = [Held(whole.studio) for _ in range(2)]
        until(lambda: counted._open["ann"] == 2)
        jobs = whole.context.jobs
        # One is drawn, and takes what the gate lets through: tests have it between them.
        until(lambda: (len(jobs.active("api:ann", looks=True)), len(jobs._queue)) == (2, 1))
        refused = whole.studio.ask("GET", "/config", **ANN)
        assert (refused.status, refused.body.decode()) == (
            429, "Too many requests are open at once: let some end first.",
        )  # fmt: skip
        bob = {"Authorization": f"Bearer bob:{PASSWORD}"}
        assert whole.studio.ask("GET", "/config", **bob).status == 200
        for one in held:
            one.close()
        until(lambda: not jobs._queue)
        gate.release(1)
        until(lambda: not jobs.active("api:ann", looks=True))
        until(lambda: counted._open["ann"] == 0)
        assert whole.studio.ask("GET", "/config", **ANN).status == 200


class Held:
    """An order whose picture is never drawn, until it hangs up."""

    def __init__(self, studio: Studio) -> None:
        import http.client

        self.connection = http.client.HTTPConnection("127.0.0.1", studio.port)
        body = json.dumps({"prompt": "a red apple", "steps": 1})
        self.connection.request("POST", "/v1/images/generations", body, {"Content-Type": JSON, **ANN})

    def close(self) -> None:
        assert self.connection.sock is not None
        self.connection.sock.close()


def test_nothing_of_gradio_is_left_at_its_open_default(whole: ApiStudio) -> None:
    demo = whole.studio.demo
    app = demo.server_app
    assert demo.max_file_size == limits.MAX_FILE_BYTES
    assert demo.delete_cache == (limits.CACHE_LOOK_SECONDS, limits.CACHE_SECONDS)
    assert demo._queue.max_size == limits.MAX_WAITING_VIEWERS
    assert demo._queue.default_concurrency_limit is not None
    assert demo.max_threads == limits.MAX_THREADS > whole.context.settings.viewers_at_once
    assert app.state_holder.capacity == limits.MAX_SESSIONS_WITH_STATE
    assert demo.enable_monitoring is False
    assert demo.api_open is False
    assert demo.allowed_paths == []
    assert all(event.concurrency_limit is not None for event in demo.fns.values())


def test_the_page_of_promises_shows_the_table() -> None:
    words = PAGE.read_text(encoding="utf-8")
    stated = dict(re.findall(r"^\| .* \| `(\w+)` \| ([\d,.]+)", words, re.MULTILINE))
    there = {name: value for name, value in vars(limits).items() if name.isupper()}
    there |= {
        "MAX_COUNT": MAX_COUNT, "MAX_GUIDANCE_SCALE": MAX_GUIDANCE_SCALE, "MAX_SEED": MAX_SEED,
        "MAX_PROMPT_CHARACTERS": MAX_PROMPT_CHARACTERS, "MAX_SIZE_PIXELS": MAX_SIZE_PIXELS,
        "MAX_STEPS": MAX_STEPS, "MAX_STYLES": MAX_STYLES, "PICTURES_AT_ONCE": PICTURES_AT_ONCE,
    }  # fmt: skip
    settings = {field.name: field.default for field in dataclasses.fields(Settings)}
    there |= {
        name: settings[name] for name in ("queued_jobs_per_owner", "queued_jobs_total", "viewers_at_once")
    }
    assert {name: float(value.replace(",", "")) for name, value in stated.items()} == there
