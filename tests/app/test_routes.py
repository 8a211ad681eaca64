"""Every route of the whole server, asked of the running application itself: a new one cannot escape this."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.routing import Route

from app.middleware import Guard
from app.security import set_password
from tests.app.api.studio import ApiStudio
from tests.app.doors import BASIC, PASSWORD, Studio, routes_of
from tests.app.engines import PacedEngine
from tests.app.test_middleware import STARTUP
from tests.app.whole import whole_studio

pytestmark = pytest.mark.slow
METHODS = ("GET", "HEAD", "POST", "OPTIONS", "PROPFIND")
OTHERS = (
    "/favicon.ico", "/robots.txt", "/openapi.json", "/docs", "/redoc", "/nothing", "/v1/nothing",
    "/sdapi/v1/txt2img", "/static/img/logo.svg", "/gradio_api/file=x", "/file=x", "/theme.css",
)  # fmt: skip


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, tiny_model_folder: Path) -> Iterator[ApiStudio]:
    outputs = tmp_path_factory.mktemp("whole")
    set_password(outputs / "people.txt", "ann", PASSWORD)
    with whole_studio(outputs, tiny_model_folder, PacedEngine, outputs / "people.txt") as studio:
        yield studio


def everywhere(studio: Studio) -> list[tuple[str, str]]:
    paths = dict.fromkeys([path for _, path in studio.routes] + list(OTHERS))
    return sorted({*studio.routes, *((method, path) for path in paths for method in METHODS)})


def test_the_routes_are_those_of_the_page_its_files_its_progress_and_programs(whole: ApiStudio) -> None:
    for there in (
        ("GET", "/"), ("GET", "/config"), ("POST", "/gradio_api/queue/join"),
        ("GET", "/gradio_api/queue/data"),
        ("GET", "/gradio_api/file=x"), ("POST", "/gradio_api/upload"), ("GET", "/gradio_api/upload_progress"),
        ("GET", "/static/x"), ("GET", "/v1/models"), ("POST", "/v1/images/generations"),
    ):  # fmt: skip
        assert there in whole.studio.routes
    assert len(everywhere(whole.studio)) > 300


def test_a_stranger_is_refused_on_every_route_with_every_method(whole: ApiStudio) -> None:
    for method, path in everywhere(whole.studio):
        answer = whole.studio.ask(method, path)
        if path not in ("/login", "/logout") and (method, path) != ("GET", STARTUP):
            assert answer.status == 401, (method, path, answer)
            assert answer.body in (b"", b"Log in first."), (method, path)


def test_a_page_elsewhere_is_refused_on_every_route_even_with_a_password(whole: ApiStudio) -> None:
    for method, path in everywhere(whole.studio):
        for foreign in ({"Host": "evil.example"}, {"Origin": "https://evil.example"}):
            answer = whole.studio.ask(method, path, Authorization=BASIC, **foreign)
            assert answer.status == 403, (method, path, foreign)


@pytest.mark.parametrize("how", ["cookie", "basic", "bearer"])
def test_who_may_come_in_may_everywhere_without_an_origin(whole: ApiStudio, how: str) -> None:
    headers = {
        "cookie": {"Cookie": whole.studio.log_in()},
        "basic": {"Authorization": BASIC},
        "bearer": {"Authorization": f"Bearer ann:{PASSWORD}"},
    }[how]
    for path in ("/", "/config", "/theme.css", "/v1/models", "/gradio_api/info"):
        assert whole.studio.ask("GET", path, **headers).status == 200, path
    assert whole.order(headers, steps=1)[0] == 200


def test_what_the_server_serves_is_the_application_behind_the_doors(whole: ApiStudio) -> None:
    app = whole.studio.demo.server_app
    assert whole.studio.demo.server.config.app is app
    assert type(app.middleware_stack) is Guard


def test_a_route_that_is_added_later_stands_behind_the_doors_too(whole: ApiStudio) -> None:
    reached: list[Any] = []

    async def late(asked: Any) -> Any:
        from starlette.responses import PlainTextResponse

        reached.append(asked)
        return PlainTextResponse("late")

    app = whole.studio.demo.server_app
    app.router.routes.insert(0, Route("/late", late))
    assert ("GET", "/late") in routes_of(app.router)
    assert whole.studio.ask("GET", "/late").status == 401
    assert reached == []
    assert whole.studio.ask("GET", "/late", Authorization=BASIC).body == b"late"


def test_a_websocket_is_refused_to_a_stranger(whole: ApiStudio) -> None:
    sent: list[Any] = []

    async def receive() -> Any:
        return {"type": "websocket.connect"}

    async def send(message: Any) -> None:
        sent.append(message["type"])

    host = f"127.0.0.1:{whole.studio.port}".encode()
    for _, path in whole.studio.routes:
        scope = {
            "type": "websocket", "path": path, "raw_path": path.encode(), "root_path": "", "scheme": "ws",
            "query_string": b"", "client": ("127.0.0.1", 5), "subprotocols": [], "headers": [(b"host", host)],
        }  # fmt: skip
        asyncio.run(whole.studio.demo.server_app(scope, receive, send))
    assert set(sent) == {"websocket.close"}
