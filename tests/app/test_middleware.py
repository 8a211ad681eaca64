"""The doors of a real Gradio server: every route it has, and some it has not, tried over real sockets."""

import asyncio
import base64
import contextlib
import http.client
import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from app import server
from app.hosts import Hosts
from app.middleware import FILE_POLICY, MAX_BODY_BYTES, Guard
from app.security import Accounts, set_password
from app.sessions import MAX_ATTEMPTS_PER_ADDRESS, Doorkeeper

PASSWORD = "correct horse"
BASIC = "Basic " + base64.b64encode(f"ann:{PASSWORD}".encode()).decode()
ANSWER_SECONDS = 120  # a machine that trains is slow
STARTUP = "/gradio_api/startup-events"
UNKNOWN_PATHS = [
    "/nothing", "/sdapi/v1/txt2img", "/v1/images/generations", "//", "//config", "/./config", "/../config",
    "/%2e%2e/config", "/%2e/config", "/config/../config", "/login/", "/login/x", "/login/..",
    "/login/../config", "/login/%2e%2e/config", "/Login", "/login;x", "/login%2f..%2fconfig", "/login%00",
    "/config?next=/login", "/config%3f/login", "/logout/", "//login", "//gradio_api/startup-events",
    "/gradio_api/startup-events/",
    "/gradio_api/startup-events/../info", "/gradio_api/./startup-events", "*",
]  # fmt: skip


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


def routes_of(router: Any) -> Iterator[tuple[str, str]]:
    """Every (method, path) that Gradio's application has, with x for what a path leaves open."""
    for route in router.routes:
        if hasattr(route, "original_router"):  # FastAPI keeps included routers whole
            yield from routes_of(route.original_router)
            continue
        for method in sorted(getattr(route, "methods", None) or ["GET"]):
            yield method, re.sub(r"{[^}]*}", "x", route.path)


def start(auth_file: Path | None, host: str = "127.0.0.1") -> Studio:
    hosts = Hosts(host, ["studio.example.org"])
    keeper = None if auth_file is None else Doorkeeper(Accounts(auth_file))
    doors = server.Doors(host, server.free_port(host, 0), hosts, keeper)
    demo = make_demo()
    assert server.launch(demo, doors) == f"http://{'localhost' if host == '0.0.0.0' else host}:{doors.port}/"
    routes = list(routes_of(demo.server_app.router))
    assert len(routes) > 60
    assert ("POST", "/gradio_api/upload") in routes
    return Studio(doors.port, demo, hosts, routes)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    path = tmp_path_factory.mktemp("doors")
    kept = dict(os.environ)
    server.prepare_environment(path)
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


def test_login_and_logout_are_ours_and_tell_a_stranger_nothing(closed: Studio) -> None:
    for method in ("GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PROPFIND"):
        for path in ("/login", "/logout"):
            answer = closed.ask(method, path)
            assert answer.status in (200, 303, 400, 405), (method, path)
            assert answer.headers.get("location", "/login") == "/login"
            assert b"gradio" not in answer.body.lower()


@pytest.mark.parametrize("how", ["cookie", "basic", "token", "bearer password"])
def test_a_person_comes_in_by_any_of_the_ways(closed: Studio, cookie: str, how: str) -> None:
    headers = {"Authorization": BASIC}
    if how == "cookie":
        headers = {"Cookie": cookie}
    elif how == "bearer password":
        headers = {"Authorization": f"Bearer ann:{PASSWORD}"}
    elif how == "token":
        fields = json.dumps({"user": "ann", "password": PASSWORD}).encode()
        answer = json.loads(closed.ask("POST", "/login", fields, Content_Type="application/json").body)
        assert answer["expires_in"] > 3600
        headers = {"Authorization": f"Bearer {answer['token']}"}
    for path in ("/", "/config", "/gradio_api/info", "/theme.css"):
        assert closed.ask("GET", path, **headers).status == 200, path
    assert closed.ask("GET", "/nothing", **headers).status == 404


def greet(studio: Studio, **headers: str) -> str:
    """Send a word through Gradio's queue, as the page does, and return what the handler said in the end."""
    config = json.loads(studio.ask("GET", "/config", **headers).body)
    call = {"data": ["hello"], "fn_index": config["dependencies"][0]["id"], "session_hash": "abc"}
    sent = json.dumps(call).encode()
    joined = studio.ask("POST", "/gradio_api/queue/join", sent, Content_Type="application/json", **headers)
    assert joined.status == 200, joined
    lines = studio.ask("GET", "/gradio_api/queue/data?session_hash=abc", **headers).body.decode().splitlines()
    messages = [json.loads(line.removeprefix("data: ")) for line in lines if line]
    done = next(message for message in messages if message["msg"] == "process_completed")
    return str(done["output"]["data"][0])


def test_handlers_learn_who_is_there_and_nobody_can_pretend(
    closed: Studio, opened: Studio, cookie: str
) -> None:
    pretended = {"X-Forwarded-User": "bob", "Remote-User": "bob", "latent_studio.user": "bob"}
    assert greet(closed, Cookie=cookie, **pretended) == "ann says hello"
    assert greet(closed, Authorization=BASIC) == "ann says hello"
    assert greet(opened, Cookie=cookie, **pretended) == "None says hello"


def test_the_browser_is_sent_to_the_login_page_and_its_scripts_are_not(closed: Studio) -> None:
    page = closed.ask("GET", "/", Accept="text/html,*/*", Sec_Fetch_Mode="navigate", Sec_Fetch_Site="none")
    assert (page.status, page.headers["location"]) == (303, "/login")
    script = closed.ask(
        "GET", "/config", Accept="text/html,*/*", Sec_Fetch_Mode="cors", Sec_Fetch_Site="same-origin"
    )
    assert script.status == 401
    assert (
        "basic" not in script.headers["www-authenticate"].lower()
    )  # that would open the browser's own window
    assert closed.ask("GET", "/config").headers["www-authenticate"].startswith("Basic ")
    login = closed.ask("GET", "/login")
    assert login.status == 200
    assert "script-src" not in login.headers["content-security-policy"]
    assert login.headers["content-security-policy"].startswith("default-src 'none'")


def test_the_cookie_is_for_this_site_alone_and_secure_behind_https(closed: Studio) -> None:
    form = {"Content_Type": "application/x-www-form-urlencoded"}
    body = b"user=ann&password=correct+horse"
    plain = closed.ask("POST", "/login", body, Origin=f"http://127.0.0.1:{closed.port}", **form).cookies[0]
    assert plain.startswith(f"latent_studio_{closed.port}=")
    for word in ("HttpOnly", "SameSite=strict", "Path=/", "Max-Age="):
        assert word in plain
    assert "Secure" not in plain
    assert "Domain" not in plain
    secure = closed.ask(
        "POST", "/login", body, Host="studio.example.org", Origin="https://studio.example.org",
        X_Forwarded_Proto="https", X_Forwarded_For="203.0.113.5", **form,
    ).cookies[0]  # fmt: skip
    assert secure.startswith(f"__Host-latent_studio_{closed.port}=")
    assert "Secure" in secure
    planted = secure.partition(";")[0].removeprefix("__Host-")
    https = {"X_Forwarded_Proto": "https", "X_Forwarded_For": "203.0.113.5", "Host": "studio.example.org"}
    assert closed.ask("GET", "/config", Cookie=planted, **https).status == 401
    assert closed.ask("GET", "/config", Cookie=f"__Host-{planted}", **https).status == 200


def test_a_share_link_counts_as_https_whatever_the_tunnel_says(closed: Studio) -> None:
    assert closed.ask("GET", "/login", Host="abc.gradio.live").status == 403
    closed.hosts.allow("abc.gradio.live", https=True)
    cookie = closed.log_in(Host="abc.gradio.live", Origin="https://abc.gradio.live")
    assert cookie.startswith("__Host-")
    assert closed.ask("GET", "/config", Host="abc.gradio.live", Cookie=cookie).status == 200
    assert closed.ask("GET", "/config", Host="other.gradio.live", Cookie=cookie).status == 403


def test_logging_out_ends_the_session(closed: Studio) -> None:
    cookie = closed.log_in()
    assert closed.ask("GET", "/login", Cookie=cookie).headers["location"] == "/"
    answer = closed.ask("GET", "/logout", Cookie=cookie)
    assert (answer.status, answer.headers["location"]) == (303, "/login")
    assert "Max-Age=0" in answer.cookies[0]
    assert closed.ask("GET", "/config", Cookie=cookie).status == 401


@pytest.mark.parametrize(
    "cookie", ["", "latent_studio=x", "latent_studio_{port}=", "latent_studio_{port}=x; a", "=;=,\xff"]
)
def test_a_made_up_cookie_is_nobody(closed: Studio, cookie: str) -> None:
    assert closed.ask("GET", "/config", Cookie=cookie.format(port=closed.port)).status == 401


@pytest.mark.parametrize(
    "body", [b"", b"user=ann", b"user=ann&password=\xff", b"%", b"user=a&password=b&c=d&e=f&g=h"]
)
def test_a_malformed_login_form_is_refused(closed: Studio, body: bytes) -> None:
    assert closed.ask("POST", "/login", body).status == 400


@pytest.mark.parametrize("body", [b"", b"[]", b"null", b'{"user": 1, "password": 2}', b"[" * 9000, b"\xff"])
def test_malformed_login_json_is_refused(closed: Studio, body: bytes) -> None:
    assert closed.ask("POST", "/login", body, Content_Type="application/json").status == 400


def test_guessing_is_slowed_down_for_one_address_and_not_for_others(auth_file: Path) -> None:
    studio = start(auth_file)
    try:
        body = b"user=ann&password=wrong+guess"
        away = {"X_Forwarded_For": "203.0.113.5"}
        statuses = [
            studio.ask("POST", "/login", body, **away).status for _ in range(MAX_ATTEMPTS_PER_ADDRESS + 2)
        ]
        assert statuses == [401] * MAX_ATTEMPTS_PER_ADDRESS + [429] * 2
        for path in ("/login", "/config"):
            refused = studio.ask("POST", path, body, Authorization=BASIC, **away)
            assert refused.status == 429
            assert int(refused.headers["retry-after"]) > 0
        assert studio.log_in()
    finally:
        studio.demo.close(verbose=False)


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


FILE_HEAD = (
    b'--b\r\nContent-Disposition: form-data; name="files"; filename="%s"\r\n'
    b"Content-Type: application/octet-stream\r\n\r\n"
)


def files_without_end(size_mib: int) -> Iterator[bytes]:
    """Files of 8 MiB each, one after the other, of which none is too large alone."""
    for number in range(0, size_mib, 8):
        yield FILE_HEAD % f"{number}.png".encode()
        yield from [bytes(2**20)] * 8
        yield b"\r\n"


@pytest.mark.parametrize("path", ["/gradio_api/upload", "/gradio_api/queue/join"])
def test_a_body_over_the_limit_is_refused_announced_or_not(closed: Studio, cookie: str, path: str) -> None:
    kind = "multipart/form-data; boundary=b" if path.endswith("upload") else "application/json"
    announced = closed.ask("POST", path, b"x", Content_Length=str(MAX_BODY_BYTES + 1), Cookie=cookie)
    stream = files_without_end(2 * MAX_BODY_BYTES // 2**20)
    streamed = closed.ask("POST", path, stream, Cookie=cookie, Content_Type=kind)
    for answer in (announced, streamed):
        assert (answer.status, answer.body) == (413, b"The request is larger than 32 MiB.")


def test_a_strangers_body_is_not_read_at_all(closed: Studio) -> None:
    assert closed.ask("POST", "/gradio_api/upload", b"", Content_Length=str(2**40)).status == 401
    assert closed.ask("POST", "/login", files_without_end(8)).status == 400


def upload(studio: Studio, name: str, content: bytes, **headers: str) -> Answer:
    body = FILE_HEAD % name.encode() + content + b"\r\n--b--\r\n"
    return studio.ask(
        "POST", "/gradio_api/upload", body, Content_Type="multipart/form-data; boundary=b", **headers
    )


def test_an_uploaded_page_or_drawing_cannot_act_as_ours(closed: Studio, cookie: str) -> None:
    for name in ("page.html", "drawing.svg", "picture.png", "script.js"):
        stored = upload(
            closed, name, b"<svg xmlns='http://www.w3.org/2000/svg' onload='alert(1)'/>", Cookie=cookie
        )
        assert stored.status == 200
        path = json.loads(stored.body)[0]
        assert closed.ask("GET", f"/gradio_api/file={path}").status == 401
        served = closed.ask("GET", f"/gradio_api/file={path}", Cookie=cookie)
        assert served.status == 200
        assert served.headers["content-security-policy"] == FILE_POLICY
        assert served.headers["x-content-type-options"] == "nosniff"


def test_a_file_over_the_limit_is_refused(closed: Studio, cookie: str) -> None:
    answer = upload(closed, "big.png", bytes(server.MAX_FILE_BYTES + 1), Cookie=cookie)
    assert answer.status == 413


@pytest.mark.parametrize(
    "path",
    ["/etc/passwd", "{folder}/people.txt", "{folder}/cache/../people.txt", "launch.py", "{root}/launch.py",
     "{root}/pyproject.toml", "../../../../etc/passwd", "%2e%2e/%2e%2e/etc/passwd"],
)  # fmt: skip
def test_no_file_of_the_machine_is_served(closed: Studio, cookie: str, folder: Path, path: str) -> None:
    path = path.format(folder=folder, root=Path(server.__file__).parents[1])
    for route in (
        "/gradio_api/file=",
        "/gradio_api/file/",
        "/file=",
        "/gradio_api/proxy=",
        "/static/",
        "/assets/",
    ):
        answer = closed.ask("GET", route + path, Cookie=cookie)
        assert answer.status in (400, 403, 404), (route, path, answer.status)


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
