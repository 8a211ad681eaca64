"""Real studios over real sockets, for the API of programs: page, queue, doors and an engine."""

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr
import pytest

from app import gradio_server
from app.api import openai
from app.api.routes import routes
from app.context import Context, open_context
from app.hosts import Hosts
from app.security import Accounts
from app.server import free_port
from app.sessions import Doorkeeper
from app.settings import Settings
from tests.app.doors import ANSWER_SECONDS, Studio
from tests.ports import quiet_port

JSON = "application/json"


@dataclass(frozen=True)
class ApiStudio:
    """A studio with its context, and how a program asks it."""

    studio: Studio
    context: Context

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.studio.port}"

    def order(self, /, headers: dict[str, str] | None = None, **fields: Any) -> tuple[int, dict[str, Any]]:
        """The status and the JSON of an order that is not streamed."""
        body = json.dumps({"prompt": "a red apple", **fields}).encode()
        sent = {"Content_Type": JSON, **(headers or {})}
        answer = self.studio.ask("POST", openai.GENERATIONS, body, **sent)
        return answer.status, json.loads(answer.body)

    def stream(self, **fields: Any) -> Iterator[dict[str, Any]]:
        """The events of a streamed order; closing the iterator hangs up."""
        import http.client

        connection = http.client.HTTPConnection("127.0.0.1", self.studio.port, timeout=ANSWER_SECONDS)
        body = json.dumps({"prompt": "a red apple", "stream": True, **fields})
        try:
            connection.request("POST", openai.GENERATIONS, body, {"Content-Type": JSON})
            response = connection.getresponse()
            assert response.status == 200, response.read()
            assert response.getheader("content-type", "").startswith("text/event-stream")
            for line in response:
                if line.startswith(b"data: "):
                    yield json.loads(line[6:])
        finally:
            connection.sock and connection.sock.close()
            connection.close()


@contextmanager
def served(
    outputs: Path,
    model: Path,
    open_engine: Callable[[Path], Any],
    build: Callable[[Context], tuple[gr.Blocks, dict[str, Any]]],
    auth_file: Path | None = None,
    **limits: Any,
) -> Iterator[tuple[Studio, Context]]:
    """A page as `build` makes it, with its look, behind the doors and with every route of programs."""
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("GRADIO_")]:
            patch.delenv(name)
        patch.setenv("GRADIO_TEMP_DIR", str(outputs / "cache"))
        gradio_server.prepare_environment(outputs)
        context = open_context([model], open_engine, settings=Settings(outputs=outputs, **limits))
        host = "127.0.0.1"
        hosts = Hosts(host)
        keeper = None if auth_file is None else Doorkeeper(Accounts(auth_file))
        doors = gradio_server.Doors(host, free_port(host, quiet_port()), hosts, keeper)
        demo, look = build(context)
        gradio_server.launch(demo, doors, routes(context), **look)
        try:
            yield Studio(doors.port, demo, hosts), context
        finally:
            context.close()
            demo.close(verbose=False)


def _nothing(context: Context) -> tuple[gr.Blocks, dict[str, Any]]:
    """A page without words and forms, which the API has no use for."""
    with gr.Blocks(analytics_enabled=False) as demo:
        gr.HTML("")
    return demo, {}


@contextmanager
def running(
    outputs: Path,
    model: Path,
    open_engine: Callable[[Path], Any],
    auth_file: Path | None = None,
    **limits: Any,
) -> Iterator[ApiStudio]:
    """A studio for programs alone."""
    with served(outputs, model, open_engine, _nothing, auth_file, **limits) as (studio, context):
        yield ApiStudio(studio, context)
