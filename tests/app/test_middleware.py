"""The doors of a real Gradio server: every route it has, and some it has not, tried over real sockets."""

import asyncio
import http.client
import json
from pathlib import Path
from typing import Any

from app.hosts import Hosts
from app.middleware import Guard
from app.security import Accounts
from app.sessions import Doorkeeper
from tests.app.doors import ANSWER_SECONDS, BASIC, Studio, start

STARTUP = "/gradio_api/startup-events"
UNKNOWN_PATHS = [
    "/nothing", "/sdapi/v1/txt2img", "/v1/images/generations", "//", "//config", "/./config", "/../config",
    "/%2e%2e/config", "/%2e/config", "/config/../config", "/login/", "/login/x", "/login/..",
    "/login/../config", "/login/%2e%2e/config", "/Login", "/login;x", "/login%2f..%2fconfig", "/login%00",
    "/config?next=/login", "/config%3f/login", "/logout/", "//login", "//gradio_api/startup-events",
    "/gradio_api/startup-events/",
    "/gradio_api/startup-events/../info", "/gradio_api/./startup-events", "*",
]  # fmt: skip


def everywhere(studio: Studio) -> list[tuple[str, str]]:
    return studio.routes + [
        (method, path) for path in UNKNOWN_PATHS for method in ("GET", "POST", "OPTIONS", "PROPFIND")
    ]


def test_no_route_answers_a_foreign_host(closed: Studio, opened: Studio, cookie: str) -> None:
    for method, path in everywhere(closed):
        assert closed.ask(method, path, Host="evil.example", Cookie=cookie).status == 403, (method, path)
        assert opened.ask(method, path, Host="evil.example").status == 403, (method, path)


def test_no_route_answers_a_page_of_another_site(closed: Studio, opened: Studio, cookie: str) -> None:
    for method, path in everywhere(closed):
        for origin in ("https://evil.example", "null"):
            assert closed.ask(method, path, Origin=origin, Cookie=cookie).status == 403, (
                method,
                path,
                origin,
            )
            assert opened.ask(method, path, Origin=origin).status == 403, (method, path, origin)


def test_no_route_answers_a_stranger(closed: Studio) -> None:
    for method, path in everywhere(closed):
        answer = closed.ask(method, path)
        if path in ("/login", "/logout") or (method, path) == ("GET", STARTUP):
            continue
        assert answer.status == 401, (method, path, answer)
        assert b"gradio" not in answer.body.lower(), (method, path)


def test_requests_that_a_browser_marks_as_foreign_are_refused_even_without_origin(opened: Studio) -> None:
    for site in ("cross-site", "same-site"):
        for mode, dest in (
            ("no-cors", "image"),
            ("cors", "empty"),
            ("navigate", "iframe"),
            ("websocket", "empty"),
        ):
            foreign = {"Sec_Fetch_Site": site, "Sec_Fetch_Mode": mode, "Sec_Fetch_Dest": dest}
            assert opened.ask("GET", "/config", **foreign).status == 403, foreign
            assert opened.ask("POST", "/gradio_api/queue/join", b"{}", **foreign).status == 403, foreign
        form = {"Sec_Fetch_Site": site, "Sec_Fetch_Mode": "navigate", "Sec_Fetch_Dest": "document"}
        assert opened.ask("GET", "/", **form).status == 200  # a link to the page
        assert opened.ask("POST", "/gradio_api/queue/join", b"{}", **form).status == 403
    own = {"Sec_Fetch_Site": "same-origin", "Sec_Fetch_Mode": "cors", "Sec_Fetch_Dest": "empty"}
    assert opened.ask("GET", "/config", Origin=f"http://127.0.0.1:{opened.port}", **own).status == 200


def test_a_forwarded_host_has_to_be_ours_too(opened: Studio) -> None:
    assert opened.ask("GET", "/config", X_Forwarded_Host="studio.example.org").status == 200
    for forwarded in ("evil.example", "studio.example.org, evil.example", ""):
        assert opened.ask("GET", "/config", X_Forwarded_Host=forwarded).status == 403


def test_preflights_of_other_sites_are_refused_by_us_and_not_answered_by_gradio(opened: Studio) -> None:
    asked = {"Access_Control_Request_Method": "POST", "Access_Control_Request_Headers": "content-type"}
    for host in (f"127.0.0.1:{opened.port}", "studio.example.org"):
        answer = opened.ask(
            "OPTIONS", "/gradio_api/queue/join", Host=host, Origin="https://evil.example", **asked
        )
        assert answer.status == 403
        assert "access-control-allow-origin" not in answer.headers


def test_websockets_meet_the_same_doors(auth_file: Path) -> None:
    seen: list[Any] = []

    async def inside(scope: Any, _receive: Any, _send: Any) -> None:
        seen.append(scope)

    async def receive() -> Any:
        return {"type": "websocket.connect"}

    async def send(message: Any) -> None:
        seen.append(message["type"])

    guard = Guard(inside, Hosts("127.0.0.1"), Doorkeeper(Accounts(auth_file)))

    def knock(**headers: str) -> None:
        scope = {
            "type": "websocket", "path": "/anything", "scheme": "ws", "client": ("127.0.0.1", 5),
            "headers": [(name.lower().encode(), text.encode()) for name, text in headers.items()],
        }  # fmt: skip
        asyncio.run(guard(scope, receive, send))

    knock(Host="evil.example", Authorization=BASIC)
    knock(Host="localhost", Authorization=BASIC, Origin="https://evil.example")
    knock(Host="localhost")
    assert seen == ["websocket.close"] * 3
    knock(Host="localhost", Authorization=BASIC, Origin="http://localhost")
    assert seen[3]["latent_studio.user"] == "ann"


def test_the_start_up_call_is_for_this_machine_only(closed: Studio) -> None:
    assert closed.ask("GET", STARTUP).status == 200
    for name in ("X-Forwarded-For", "X-Forwarded-Host", "Forwarded"):
        value = "127.0.0.1" if name != "Forwarded" else "for=127.0.0.1"
        assert closed.ask("GET", STARTUP, **{name: value}).status == 401
    assert closed.ask("POST", STARTUP).status == 401


def test_a_server_on_all_addresses_needs_the_password_on_each(auth_file: Path) -> None:
    studio = start(auth_file, "0.0.0.0")
    try:
        assert studio.ask("GET", "/config").status == 401
        assert (
            studio.ask("GET", "/config", Host=f"localhost:{studio.port}", Authorization=BASIC).status == 200
        )
        assert studio.ask("GET", "/config", Host="10.11.12.13", Authorization=BASIC).status == 403
    finally:
        studio.demo.close(verbose=False)


def test_every_answer_carries_the_headers_that_shut_the_rest_out(closed: Studio, opened: Studio) -> None:
    answers = [opened.ask("GET", "/"), opened.ask("GET", "/nothing"), closed.ask("GET", "/config"),
               closed.ask("GET", "/login"), closed.ask("GET", "/config", Host="evil.example")]  # fmt: skip
    for answer in answers:
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "same-origin"
        assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]
        assert "default-src 'none'" in answer.headers["content-security-policy"]
        assert "http" not in answer.headers["content-security-policy"]


def test_what_the_studio_does_not_use_is_shut(opened: Studio) -> None:
    for path in (
        "/monitoring",
        "/monitoring/summary",
        "/gradio_api/runs",
        "/docs",
        "/openapi.json",
        "/gradio_api/mcp/",
    ):
        assert opened.ask("GET", path).status in (403, 404), path
    # Gradio's editor of the program's own code.
    code = json.dumps({"code": "print()", "prompt": "x", "hash": "x"}).encode()
    for path in ("vibe-edit", "vibe-code", "undo-vibe-edit", "vibe-starter-queries"):
        answer = opened.ask("POST", f"/gradio_api/{path}", code, Content_Type="application/json")
        assert answer.status == 403, (path, answer)
    # Gradio's way past its own queue.
    assert (
        opened.ask(
            "POST", "/gradio_api/run/greet", b'{"data": ["x"]}', Content_Type="application/json"
        ).status
        == 404
    )


def test_one_host_header_is_wanted(opened: Studio) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", opened.port, timeout=ANSWER_SECONDS)
    for names in ([], ["127.0.0.1", "evil.example"], ["evil.example", "127.0.0.1"]):
        connection.putrequest("GET", "/config", skip_host=True)
        for name in names:
            connection.putheader("Host", name)
        connection.endheaders()
        assert connection.getresponse().status in (400, 403)
        connection.close()
