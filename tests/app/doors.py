"""A real Gradio server behind our doors, and a way to ask it over a real socket."""

import base64
import contextlib
import http.client
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from app import gradio_server
from app.hosts import Hosts
from app.security import Accounts
from app.server import free_port
from app.sessions import Doorkeeper
from tests.ports import quiet_port

PASSWORD = "correct horse"
BASIC = "Basic " + base64.b64encode(f"ann:{PASSWORD}".encode()).decode()
ANSWER_SECONDS = 120  # a machine that trains is slow


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes
    cookies: list[str]


@dataclass(frozen=True)
class Studio:
    """A running server, and a way to ask it exactly what a test says: no header is added, no path tidied."""

    port: int
    demo: Any
    hosts: Hosts
    routes: list[tuple[str, str]] = field(default_factory=list)

    def ask(
        self, method: str, path: str, body: bytes | Iterator[bytes] | None = None, /, **headers: str
    ) -> Answer:
        sent = {"Host": f"127.0.0.1:{self.port}"} | {
            name.replace("_", "-"): text for name, text in headers.items()
        }
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=ANSWER_SECONDS)
        try:
            connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
            for name, text in sent.items():
                connection.putheader(name, text)
            is_stream = body is not None and not isinstance(body, bytes)
            if is_stream:
                connection.putheader("Transfer-Encoding", "chunked")
            elif isinstance(body, bytes) and "Content-Length" not in sent:
                connection.putheader("Content-Length", str(len(body)))
            # Refused before everything was sent: the answer is there to be read.
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                connection.endheaders(body, encode_chunked=is_stream)
            response = connection.getresponse()
            return Answer(
                response.status,
                {name.lower(): text for name, text in response.getheaders()},
                response.read(),
                response.msg.get_all("set-cookie") or [],
            )
        finally:
            connection.close()

    def log_in(self, **headers: str) -> str:
        """The Cookie header of a new session."""
        answer = self.ask(
            "POST",
            "/login",
            f"user=ann&password={PASSWORD.replace(' ', '+')}".encode(),
            Content_Type="application/x-www-form-urlencoded",
            **headers,
        )
        assert answer.status == 303, answer
        assert answer.headers["location"] == "/"
        return answer.cookies[0].partition(";")[0]


def make_demo() -> Any:
    """A small page with what matters to the doors: a handler that says who called, an upload, a picture."""
    import gradio as gr

    def greet(text: str, request: gr.Request) -> Iterator[str]:
        yield "..."
        yield f"{request.username} says {text}"

    with gr.Blocks(analytics_enabled=False) as demo:
        words, heard, button = gr.Textbox(), gr.Textbox(), gr.Button("Go")
        gr.Image()
        button.click(greet, words, heard, api_name="greet")
    return demo


def routes_of(router: Any, prefix: str = "") -> Iterator[tuple[str, str]]:
    """Every (method, path) that an application has, with x for what a path leaves open."""
    for route in router.routes:
        if hasattr(route, "original_router"):  # FastAPI keeps included routers whole
            yield from routes_of(route.original_router, prefix)
            continue
        path = prefix + re.sub(r"{[^}]*}", "x", route.path)
        if getattr(route, "routes", None) is not None:  # another application at a path of this one
            yield from routes_of(route, path)
            path += "/x"
        for method in sorted(getattr(route, "methods", None) or ["GET"]):
            yield method, path


def start(auth_file: Path | None, host: str = "127.0.0.1") -> Studio:
    hosts = Hosts(host, ["studio.example.org"])
    keeper = None if auth_file is None else Doorkeeper(Accounts(auth_file))
    doors = gradio_server.Doors(host, free_port(host, quiet_port()), hosts, keeper)
    demo = make_demo()
    assert (
        gradio_server.launch(demo, doors)
        == f"http://{'localhost' if host == '0.0.0.0' else host}:{doors.port}/"
    )
    routes = list(routes_of(demo.server_app.router))
    assert len(routes) > 60
    assert ("POST", "/gradio_api/upload") in routes
    return Studio(doors.port, demo, hosts, routes)
