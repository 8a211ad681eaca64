"""The server as `launch.py ui` starts it: the page, every route of programs, doors, queue and engine."""

import dataclasses
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.app.api.studio import JSON, ApiStudio, served
from tests.app.doors import Answer, Studio, routes_of


@dataclass(frozen=True)
class Asked:
    """What became of an event of the page."""

    status: int
    messages: list[dict[str, Any]]

    @property
    def succeeded(self) -> bool:
        last = self.messages[-1] if self.messages else {}
        return self.status == 200 and last.get("msg") == "process_completed" and bool(last["success"])


class Page:
    """A browser's side of the page: presses its buttons through Gradio's queue, as its script does."""

    def __init__(self, studio: Studio, browser: str, **headers: str) -> None:
        self.studio, self.browser, self.headers = studio, browser, headers
        config = json.loads(studio.ask("GET", "/config", **headers).body)
        self.events = config["dependencies"]
        self.parts = {part["id"]: part for part in config["components"]}
        self.pressed = 0

    def press(self, button: str, **values: Any) -> Asked:
        """Click a button by its element id, with these values of controls by theirs."""
        (number,) = (id for id, part in self.parts.items() if part["props"].get("elem_id") == button)
        event = next(event for event in self.events if [number, "click"] in map(list, event["targets"]))
        self.pressed += 1
        session = f"{self.browser}{self.pressed}"
        call = {
            "data": [self._value(id, values) for id in event["inputs"]],
            "fn_index": event["id"],
            "session_hash": session,
            "trigger_id": number,
        }
        joined = self.ask("POST", "/gradio_api/queue/join", json.dumps(call).encode())
        if joined.status != 200:
            return Asked(joined.status, [])
        stream = self.ask("GET", f"/gradio_api/queue/data?session_hash={session}").body.decode()
        lines = [line.removeprefix("data: ") for line in stream.splitlines() if line.startswith("data: ")]
        messages = [json.loads(line) for line in lines]
        return Asked(200, [message for message in messages if message["msg"] != "close_stream"])

    def ask(self, method: str, path: str, body: bytes | None = None) -> Answer:
        return self.studio.ask(method, path, body, **({"Content_Type": JSON} if body else {}), **self.headers)

    def _value(self, number: int, values: dict[str, Any]) -> Any:
        part = self.parts[number]
        if part["type"] == "browserstate":
            return self.browser
        return values.get(part["props"].get("elem_id"), part["props"].get("value"))


@contextmanager
def whole_studio(
    outputs: Path,
    model: Path,
    open_engine: Callable[[Path], Any],
    auth_file: Path | None = None,
    **limits: Any,
) -> Iterator[ApiStudio]:
    from app.page import build_page

    with served(outputs, model, open_engine, build_page, auth_file, **limits) as (studio, context):
        there = list(routes_of(studio.demo.server_app.router))
        yield ApiStudio(dataclasses.replace(studio, routes=there), context)
