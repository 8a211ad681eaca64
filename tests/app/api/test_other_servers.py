"""A page whose pictures are drawn by a server that knows less than a studio, or answers wrongly."""

import base64
import io
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from app import text
from app.backend import Backend
from app.job import JobState
from app.settings import Settings
from app.stage import live_stage, previews
from models.errors import StudioError
from pipelines.png import read_png
from pipelines.remote_server import KEY_VARIABLE, RemoteServer
from tests.app.api.fronts import ANN, engine_at, front
from tests.app.engines import a_request
from tests.app.queues import the_end, until

pytestmark = pytest.mark.slow


class Answers(ThreadingHTTPServer):
    """A server that answers every order in one way, and keeps what it was sent."""

    daemon_threads = True

    def __init__(self, answer: Callable[[BaseHTTPRequestHandler], None], models: Any) -> None:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                say(self, 200, models)

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                outer.asked.append((dict(self.headers), json.loads(body)))
                answer(self)

            def log_message(self, *_: Any) -> None:
                pass

        outer = self
        self.asked: list[tuple[dict[str, str], dict[str, Any]]] = []
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"


def say(handler: BaseHTTPRequestHandler, status: int, answer: Any, kind: str = "application/json") -> None:
    body = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
    handler.send_response(status)
    handler.send_header("Content-Type", kind)
    handler.send_header("Content-Length", str(len(body)))
    handler.end_headers()
    handler.wfile.write(body)


@contextmanager
def answering(answer: Callable[[BaseHTTPRequestHandler], None], models: Any = None) -> Iterator[Answers]:
    with Answers(answer, {"data": [{"id": "zimage"}]} if models is None else models) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


def png(colour: tuple[int, int, int] = (1, 2, 3)) -> str:
    buffer = io.BytesIO()
    Image.new("RGB", (64, 48), colour).save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()


def test_a_server_of_openais_form_alone_draws_without_previews_which_the_page_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(KEY_VARIABLE, "sk-one")
    go_on = threading.Event()

    def answer(handler: BaseHTTPRequestHandler) -> None:
        go_on.wait(60)
        say(handler, 200, {"created": 1, "data": [{"b64_json": png()}]})

    with answering(answer) as server, front(server.url, tmp_path) as (context, model):
        assert context.models[0].size == "1024x1024"
        order = a_request(width=64, height=48, count=2, seed=5, negative_prompt="blue")
        job = context.jobs.submit(order, ANN, model)
        view = until(context.jobs, job, lambda view: view.engine is not None)
        assert text.NO_STEPS_THERE.format(server=server.url[7:]) in live_stage(view, previews(view), 0)
        go_on.set()
        view = the_end(context.jobs, job)
        assert view.state is JobState.DONE, view.error
        assert len(view.paths) == 2
        settings = read_png(view.paths[1])
        assert settings is not None
        assert settings.request is not None
        assert (settings.request.seed, settings.model_name) == (6, "zimage")
        headers, body = server.asked[1]
        assert headers["Authorization"] == "Bearer sk-one"
        assert body == {
            "model": "zimage", "prompt": "a red apple", "n": 1, "size": "64x48", "seed": 6,
            "response_format": "b64_json", "num_inference_steps": 3, "guidance_scale": 1.0,
            "negative_prompt": "blue",
        }  # fmt: skip
        for changes in ({"tiling": True}, {"second_pass": {}}, {"image": {"picture": "0" * 64}}):
            refused = the_end(context.jobs, context.jobs.submit(a_request(**changes), ANN, model))
            assert refused.state is JobState.FAILED
            assert "words alone" in (refused.error or "")


def cut(handler: BaseHTTPRequestHandler) -> None:
    handler.send_response(200)
    handler.send_header("Content-Length", "1000000")
    handler.end_headers()
    handler.wfile.write(b'data: {"type": "image_generation.partial_image"')


def ours(*events: Any) -> Callable[[BaseHTTPRequestHandler], None]:
    body = b"".join(b"data: " + json.dumps(event).encode() + b"\n\n" for event in events)
    return lambda handler: say(handler, 200, body, "text/event-stream")


def partial(**changed: Any) -> dict[str, Any]:
    step = {"image": 0, "first": 0, "images": 1, "step": 1, "total": 3, "sigma": 1.0}
    return {"type": "image_generation.partial_image", "b64_json": "", "latent_studio": step | changed}


BAD_ANSWERS: dict[str, tuple[Callable[[BaseHTTPRequestHandler], None], str]] = {
    "cut off": (cut, "cut off"),
    "ended early": (ours(), "ended before"),
    "failed": (lambda h: say(h, 500, b"oops", "text/plain"), r"failed \(500\): oops"),
    "full": (lambda h: say(h, 429, {"error": {"message": "The queue is full."}}), "no more.*queue is full"),
    "asks who": (lambda h: say(h, 401, b"Log in first."), "NAME:PASSWORD@"),
    "refuses the name": (lambda h: say(h, 403, b"This name is not served here."), "not served here"),
    "moved": (lambda h: say(h, 302, b""), "302"),
    "an error on the way": (
        ours({"type": "error", "error": {"type": "server_error", "message": "No memory."}}),
        "No memory",
    ),
    "no JSON": (lambda h: say(h, 200, b"data: {]\n\n"), "not understood"),
    "a list": (ours([1]), "not understood"),
    "a step of nothing": (ours({"type": "image_generation.partial_image", "b64_json": ""}), "not understood"),
    "a step of no image": (ours(partial(first=7)), "not understood"),
    "an endless step": (ours(partial(step=10**400)), "not understood"),
    "a picture that is none": (
        ours({"type": "image_generation.completed", "b64_json": "AAAA", "latent_studio": {}}),
        "not understood",
    ),
}  # fmt: skip
A_STUDIO = {"data": [{"id": "tiny", "latent_studio": {"defaults": {"width": 32, "height": 32}}}]}


@pytest.mark.parametrize("bad", BAD_ANSWERS)
def test_what_goes_wrong_over_there_is_told_in_a_sentence(bad: str, tmp_path: Path) -> None:
    answer, words = BAD_ANSWERS[bad]
    with answering(answer, A_STUDIO) as server:
        engine = engine_at(server.url, tmp_path)
        with pytest.raises(StudioError, match=words) as refusal:
            list(engine.generate(a_request()))
        assert server.url[7:] in str(refusal.value)


@pytest.mark.parametrize(
    "listed",
    [[], {"data": 7}, {"data": [{"name": "x"}]}, {"data": [{"id": "x", "latent_studio": 7}]},
     {"data": [{"id": "x", "latent_studio": {"defaults": {"width": "wide", "height": 8}}}]},
     {"data": [{"id": "x", "latent_studio": {"defaults": {"width": 8, "height": 8, "sampler": "??"}}}]}],
)  # fmt: skip
def test_a_list_of_models_that_is_none_is_refused_in_a_sentence(listed: Any, tmp_path: Path) -> None:
    with answering(cut, listed) as server, pytest.raises(StudioError, match="not understood"):
        Backend(RemoteServer.from_url(server.url), Settings(outputs=tmp_path))
