"""Many clients of one server at once: each checks that what comes back is its own."""

import base64
import http.client
import io
import json
import random
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipelines.png import read_png
from tests.app.doors import Studio
from tests.app.whole import JSON, Page

KINDS = {"program": 18, "page": 6, "leaver": 4, "wrong": 4}  # 32 clients
WRONG: list[tuple[str, str, bytes, dict[str, str]]] = [
    ("POST", "/v1/images/generations", b"{", {"Content_Type": JSON}),
    ("POST", "/v1/images/generations", b'{"prompt": "a", "steps": 100000}', {"Content_Type": JSON}),
    ("POST", "/v1/images/generations", b"prompt=a", {}),
    ("POST", "/gradio_api/upload", b"x", {"Content_Length": str(2**40)}),
    ("POST", "/gradio_api/queue/join", b"[]", {"Content_Type": JSON}),
    ("GET", "/gradio_api/file=/etc/passwd%00", b"", {}),
    ("GET", "/config", b"", {"Host": "evil.example"}),
    ("GET", "/config", b"", {"Origin": "https://evil.example"}),
    ("DELETE", "/", b"", {}),
]


@dataclass
class Load:
    """Clients of every kind against a server process for some seconds, and what they saw."""

    studio: Studio
    process: subprocess.Popen[str]
    seconds: float
    counts: Counter[str] = field(default_factory=Counter)
    broken: list[str] = field(default_factory=list)
    accepted: list[tuple[str, int]] = field(default_factory=list)  # by the page: prompt and seed
    rss_mib: list[tuple[float, float]] = field(default_factory=list)
    waits: list[float] = field(default_factory=list)

    def run(self) -> None:
        """Let all loose, watch the memory, and return when each is done."""
        kinds = [kind for kind, count in KINDS.items() for _ in range(count)]
        self.started = time.monotonic()
        threads = [
            threading.Thread(target=self._client, args=(number, kind)) for number, kind in enumerate(kinds)
        ]
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads):
            self.rss_mib.append((self._now(), rss_mib(self.process.pid)))
            time.sleep(1.0)

    def median_rss_mib(self, first: float, last: float) -> float:
        """Of the samples between these shares of the time."""
        inside = sorted(mib for at, mib in self.rss_mib if first * self.seconds <= at < last * self.seconds)
        return inside[len(inside) // 2]

    def _now(self) -> float:
        return time.monotonic() - self.started

    def _client(self, number: int, kind: str) -> None:
        turn: Callable[..., None] = getattr(self, f"_{kind}")
        dice = random.Random(number)
        page = Page(self.studio, f"browser{number}") if kind == "page" else None
        turns = 0
        while self._now() < self.seconds and len(self.broken) < 20:
            turns += 1
            prompt, seed = f"client {number} turn {turns}", number * 1_000_000 + turns
            try:
                turn(prompt, seed, dice, page)
            except Exception as error:
                self.broken.append(f"{kind} {number}: {error!r}")

    def _program(self, prompt: str, seed: int, _dice: random.Random, _page: None) -> None:
        begun = time.monotonic()
        status, answer = self._order({"prompt": prompt, "seed": seed, "steps": 2})
        if status == 429:
            if "queue is full" not in answer["error"]["message"]:
                self.broken.append(str(answer))
            self.counts["told that the queue is full"] += 1
            time.sleep(0.5)
            return
        png = base64.b64decode(answer["data"][0]["b64_json"])
        inside = read_png(io.BytesIO(png))
        if status != 200 or inside is None or (inside.request.prompt, inside.request.seed) != (prompt, seed):
            self.broken.append(f"{prompt} {seed} got {status} {inside}")
        self.counts["drawn for programs"] += 1
        self.waits.append(time.monotonic() - begun)

    def _page(self, prompt: str, seed: int, dice: random.Random, page: Page) -> None:
        if page.press("generate", prompt=prompt, seed=seed, steps=2, size="32x32").succeeded:
            self.accepted.append((prompt, seed))
            self.counts["asked for on the page"] += 1
        else:
            self.counts["refused on the page"] += 1
        if dice.random() < 0.1:
            page.press("stop")
            self.counts["stopped on the page"] += 1
        time.sleep(dice.uniform(0.2, 1.0))

    def _leaver(self, prompt: str, seed: int, dice: random.Random, _page: None) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self.studio.port)
        body = json.dumps({"prompt": prompt, "seed": seed, "steps": 150, "stream": dice.random() < 0.5})
        connection.request("POST", "/v1/images/generations", body, {"Content-Type": JSON})
        time.sleep(dice.uniform(0.05, 0.7))
        if connection.sock is not None:
            connection.sock.close()
        self.counts["hung up"] += 1
        time.sleep(dice.uniform(0.2, 1.0))

    def _wrong(self, _prompt: str, _seed: int, dice: random.Random, _page: None) -> None:
        method, path, body, headers = dice.choice(WRONG)
        answer = self.studio.ask(method, path, body, **headers)
        if not 400 <= answer.status < 500:
            self.broken.append(f"{method} {path} {body!r} got {answer.status}")
        self.counts["wrong"] += 1
        time.sleep(dice.uniform(0.1, 0.5))

    def _order(self, fields: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        body = json.dumps(fields).encode()
        answer = self.studio.ask("POST", "/v1/images/generations", body, Content_Type=JSON)
        return answer.status, json.loads(answer.body)


def rss_mib(process: int) -> float:
    """What a process holds in memory at the moment."""
    status = Path(f"/proc/{process}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) / 1024
