"""The login page and the two ways through it: a form that sets a cookie, JSON that answers with a token."""

import asyncio
import base64
import hashlib
import html
import json
import re
from contextlib import suppress
from pathlib import Path
from string import Template
from urllib.parse import parse_qs

from starlette.datastructures import Headers
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, RedirectResponse, Response
from starlette.types import Receive, Scope

from app import language, text
from app.limits import LOGIN_SECONDS, MAX_LOGIN_BYTES, SESSION_SECONDS
from app.sessions import Doorkeeper, TryLater

LOGIN_PATH, LOGOUT_PATH = "/login", "/logout"
PAGE = Template((Path(__file__).parent / "static" / "login.html").read_text(encoding="utf-8"))


def _style_hash() -> str:
    style = re.search(r"<style>(.*?)</style>", PAGE.template, re.DOTALL)
    assert style is not None
    return base64.b64encode(hashlib.sha256(style[1].encode()).digest()).decode()


# No script at all, and no style but the page's own.
LOGIN_POLICY = (
    f"default-src 'none'; style-src 'sha256-{_style_hash()}'; img-src data:; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'"
)


async def login(
    scope: Scope, receive: Receive, keeper: Doorkeeper, address: str, cookie_name: str, user: str | None
) -> Response:
    """Answer a request for /login; `user` is who the request's cookie already belongs to."""
    if scope["method"] in ("GET", "HEAD"):
        return RedirectResponse("/", 303) if user is not None else _page("")
    if scope["method"] != "POST":
        return PlainTextResponse("Use GET or POST.", 405, headers={"allow": "GET, HEAD, POST"})
    is_json = Headers(scope=scope).get("content-type", "").partition(";")[0].strip() == "application/json"
    announced = Headers(scope=scope).get("content-length", "0")
    body = None
    if announced.isdigit() and int(announced) <= MAX_LOGIN_BYTES:
        with suppress(TimeoutError):
            async with asyncio.timeout(LOGIN_SECONDS):
                body = await _read(receive)
    fields = None if body is None else _json_fields(body) if is_json else _form_fields(body)
    if fields is None:
        return PlainTextResponse("Send the two fields user and password, as a form or as JSON.", 400)
    answer = await keeper.log_in(fields[0], fields[1], address)
    if isinstance(answer, TryLater):
        return too_many_tries(answer, as_page=not is_json)
    if is_json:
        if answer is None:
            return JSONResponse({"error": text.LOGIN_WRONG}, 401, _NO_WINDOW)
        return JSONResponse({"token": answer, "expires_in": SESSION_SECONDS}, headers=_NOT_KEPT)
    if answer is None:
        return _page(text.LOGIN_WRONG, 401, _NO_WINDOW)
    response = RedirectResponse("/", 303, headers=_NOT_KEPT)
    response.set_cookie(
        cookie_name,
        answer,
        max_age=SESSION_SECONDS,
        path="/",
        secure=cookie_name.startswith("__Host-"),
        httponly=True,
        samesite="strict",
    )
    return response


def logout(keeper: Doorkeeper, cookie_name: str, token: str | None) -> Response:
    """End the session and forget the cookie; a strict cookie never comes with another site's link to here."""
    if token is not None:
        keeper.log_out(token)
    response = RedirectResponse(LOGIN_PATH, 303, headers=_NOT_KEPT)
    secure = cookie_name.startswith("__Host-")
    response.delete_cookie(cookie_name, path="/", secure=secure, httponly=True, samesite="strict")
    return response


def too_many_tries(later: TryLater, as_page: bool = False) -> Response:
    """429 with the time to wait."""
    message = text.LOGIN_LATER.format(seconds=later.wait_seconds)
    headers = {"retry-after": str(later.wait_seconds)}
    return _page(message, 429, headers) if as_page else PlainTextResponse(message, 429, headers)


_NOT_KEPT = {"cache-control": "no-store"}
# A 401 has to name a way to log in; Basic would open the browser's own password window.
_NO_WINDOW = {"www-authenticate": "Bearer", **_NOT_KEPT}


def _page(message: str, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    page = PAGE.substitute(
        message=html.escape(message),
        language=language.current(),
        sign_in=text.LOGIN,
        user=text.LOGIN_USER,
        password=text.LOGIN_PASSWORD,
        already=text.LOGIN_ALREADY,
    )
    return HTMLResponse(
        page, status, {"content-security-policy": LOGIN_POLICY, **_NOT_KEPT, **(headers or {})}
    )


async def _read(receive: Receive) -> bytes | None:
    body = b""
    while True:
        message = await receive()
        part: bytes = message.get("body", b"")
        body += part
        if message["type"] != "http.request" or len(body) > MAX_LOGIN_BYTES:
            return None
        if not message.get("more_body", False):
            return body


def _json_fields(body: bytes) -> tuple[str, str] | None:
    try:
        values = json.loads(body)
        user, password = values["user"], values["password"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    return (user, password) if isinstance(user, str) and isinstance(password, str) else None


def _form_fields(body: bytes) -> tuple[str, str] | None:
    try:
        values = parse_qs(body.decode(), strict_parsing=True, errors="strict", max_num_fields=4)
        return values["user"][0].strip(), values["password"][0]
    except (ValueError, KeyError):
        return None
