"""Who comes in at the doors of a real Gradio server, and how, over real sockets."""

import json
from pathlib import Path

import pytest

from app.limits import MAX_ATTEMPTS_PER_ADDRESS
from tests.app.doors import BASIC, PASSWORD, Studio, start


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


def test_the_login_page_speaks_the_languages_of_the_page(closed: Studio) -> None:
    english, chinese = (
        closed.ask("GET", "/login", Accept_Language=tag).body.decode() for tag in ("en", "zh-TW,en;q=0.5")
    )
    assert '<html lang="en">' in english
    assert "Sign in" in english
    assert '<html lang="zh-TW">' in chinese
    assert "登入" in chinese
    wrong = closed.ask("POST", "/login", b"user=ann&password=no", Accept_Language="zh-TW")
    assert (wrong.status, "使用者名稱或密碼錯誤" in wrong.body.decode()) == (401, True)


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


def test_a_login_that_never_ends_or_is_too_large_holds_nothing_open(
    closed: Studio, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.login.LOGIN_SECONDS", 0.2)
    assert closed.ask("POST", "/login", b"user=", Content_Length="100").status == 400
    assert closed.ask("POST", "/login", b"user=", Content_Length=str(2**40)).status == 400


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
