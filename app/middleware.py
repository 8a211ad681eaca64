"""The doors: one ASGI layer outside everything else, so that no route can be reached past it."""

import contextlib
from collections import Counter
from collections.abc import Iterator

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app import language
from app.hosts import Hosts, is_loopback, parse_authority
from app.limits import MAX_BODY_BYTES, MAX_OPEN_IN_ALL, MAX_OPEN_PER_PERSON
from app.login import LOGIN_PATH, LOGOUT_PATH, login, logout, too_many_tries
from app.sessions import Doorkeeper, TryLater, address_group

STARTUP_PATH = "/gradio_api/startup-events"
FILE_PATH = "/gradio_api/file"
# Gradio's pages need inline scripts and styles, and build functions from strings; all else is shut. Event
# attributes (onerror=...) are what injected markup runs by, and Gradio has none.
PAGE_POLICY = (
    "default-src 'none'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; script-src-attr 'none'; "
    "style-src 'self' 'unsafe-inline'; font-src 'self' data:; img-src 'self' data: blob:; "
    "media-src 'self' blob:; connect-src 'self'; worker-src 'self' blob:; manifest-src 'self'; "
    "form-action 'self'; base-uri 'self'; frame-ancestors 'none'"
)
# A file that somebody uploaded is shown as a picture at most, never as a page of ours.
FILE_POLICY = (
    "default-src 'none'; img-src 'self' data:; style-src 'unsafe-inline'; frame-ancestors 'none'; sandbox"
)
SECURITY_HEADERS = {
    "x-content-type-options": "nosniff",
    # Not no-referrer: under that, browsers send `Origin: null` with the login form.
    "referrer-policy": "same-origin",
    "x-frame-options": "DENY",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
}
PROXY_HEADERS = ("forwarded", "x-forwarded-for", "x-forwarded-host", "x-real-ip", "via")
SHUT_PATHS = ("/proxy=", "/gradio_api/proxy=")  # Gradio's way to other servers
MAX_NAME_BYTES = 255  # of a file system
# Where auth_dependency finds the person: a scope key, which no request can bring along.
USER_KEY = "latent_studio.user"


class BodyTooLargeError(Exception):
    """Ends the reading of a request body that passed the limit."""


class TooManyOpenError(Exception):
    """There are as many requests open as may be, of one person or of all."""


class OpenRequests:
    """Counts the requests that are being answered, for each person and in all."""

    def __init__(self, per_person: int, in_all: int) -> None:
        self.per_person, self.in_all = per_person, in_all
        self._open: Counter[str] = Counter()

    @contextlib.contextmanager
    def one_of(self, person: str) -> Iterator[None]:
        """Count one while the block lasts; TooManyOpenError where there are too many."""
        if self._open[person] >= self.per_person or self._open.total() >= self.in_all:
            raise TooManyOpenError
        self._open[person] += 1
        try:
            yield
        finally:
            self._open[person] -= 1
            if not self._open[person]:
                del self._open[person]


class Guard:
    """Lets a request in when its Host, Origin, person and size are right; answers 403, 401 or 413 else.

    Whoever has too many requests open already gets 429.

    Without a doorkeeper there are no accounts and everyone on this machine may come in.
    """

    def __init__(
        self,
        app: ASGIApp,
        hosts: Hosts,
        doorkeeper: Doorkeeper | None = None,
        cookie_name: str = "latent_studio",
        max_body_bytes: int = MAX_BODY_BYTES,
        max_open: tuple[int, int] = (MAX_OPEN_PER_PERSON, MAX_OPEN_IN_ALL),
    ) -> None:
        self.app = app
        self.hosts = hosts
        self.doorkeeper = doorkeeper
        self.cookie_name = cookie_name
        self.max_body_bytes = max_body_bytes
        # Those who log in take no place from those who are in.
        self._at_the_door, self._inside = OpenRequests(*max_open), OpenRequests(*max_open)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection; the server's own start and end, the third kind of scope, pass."""
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        with language.speaking(language.wanted(headers)):
            await self._answer(scope, headers, receive, _with_security_headers(scope, send))

    async def _answer(self, scope: Scope, headers: Headers, receive: Receive, send: Send) -> None:
        refusal = self._refusal(scope, headers)
        try:
            if refusal is None:
                with self._at_the_door.one_of(address_group(_address(scope))):
                    refusal = await self._identify(scope, headers, receive) or _nothing_at(scope["path"])
            if refusal is None:
                with self._inside.one_of(scope[USER_KEY] or ""):
                    if scope["type"] == "http":
                        await self._serve_limited(scope, receive, send)
                    else:
                        await self.app(scope, receive, send)
                return
        except TooManyOpenError:
            refusal = PlainTextResponse(
                "Too many requests are open at once: let some end first.", 429, {"retry-after": "2"}
            )
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008, "reason": "refused"})
        else:
            await refusal(scope, receive, send)

    async def _serve_limited(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Stop a body that grows past the limit, announced or not; 413 whatever the route makes of that."""
        announced = Headers(scope=scope).get("content-length", "")
        too_large = announced.isdigit() and int(announced) > self.max_body_bytes
        started = False
        read_bytes = 0

        async def limited_receive() -> Message:
            nonlocal read_bytes, too_large
            message = await receive()
            read_bytes += len(message.get("body", b""))
            if read_bytes > self.max_body_bytes:
                too_large = True
                raise BodyTooLargeError
            return message

        async def limited_send(message: Message) -> None:
            nonlocal started
            if not too_large:
                started = True
                await send(message)

        if not too_large:
            with contextlib.suppress(BodyTooLargeError):
                await self.app(scope, limited_receive, limited_send)
        if too_large and not started:
            limit = f"{self.max_body_bytes / 2**20:g} MiB"
            await PlainTextResponse(f"The request is larger than {limit}.", 413)(scope, receive, send)

    def _refusal(self, scope: Scope, headers: Headers) -> Response | None:
        """What is wrong with where a request goes and where it comes from."""
        server = scope.get("server")
        server_address = server[0] if server else None
        named = headers.getlist("host")
        if len(named) != 1:
            return PlainTextResponse("A request needs one Host header.", 400)
        through = [name.strip() for value in headers.getlist("x-forwarded-host") for name in value.split(",")]
        for host in (*named, *through):
            if not self.hosts.answers_to(host, server_address):
                authority = parse_authority(host)
                name = "NAME" if authority is None else authority.name
                return PlainTextResponse(
                    "This name is not served here. Whoever runs the server can allow it: "
                    f"python launch.py --allow-host {name}",
                    403,
                )
        if any(not self.hosts.is_our_origin(origin, named[0]) for origin in headers.getlist("origin")):
            return PlainTextResponse("Requests from other sites' pages are refused.", 403)
        # Browsers say with every request which site's page made it (Fetch Metadata); only a link to the page
        # itself may stand elsewhere. Programs send nothing of the kind.
        site = headers.get("sec-fetch-site", "none")
        is_link = (
            scope["type"] == "http"
            and scope["method"] in ("GET", "HEAD")
            and headers.get("sec-fetch-mode") == "navigate"
            and headers.get("sec-fetch-dest", "document") == "document"
        )
        if site not in ("same-origin", "none") and not is_link:
            return PlainTextResponse("Requests from other sites' pages are refused.", 403)
        return None

    async def _identify(self, scope: Scope, headers: Headers, receive: Receive) -> Response | None:
        """Put the person into the scope, or answer with what they have to do first."""
        if self.doorkeeper is None:
            scope[USER_KEY] = None
            return None
        address = _address(scope)
        # By the __Host- prefix browsers refuse a cookie that a neighbouring name planted; it needs https.
        is_https = scope["scheme"] in ("https", "wss") or self.hosts.is_https(headers["host"])
        cookie_name = f"__Host-{self.cookie_name}" if is_https else self.cookie_name
        token = _cookie(headers, cookie_name)
        user = None if token is None else self.doorkeeper.session_user(token)
        path = scope["path"] if scope["type"] == "http" else ""
        if path == LOGOUT_PATH:
            return logout(self.doorkeeper, cookie_name, token)
        if path == LOGIN_PATH:
            return await login(scope, receive, self.doorkeeper, address, cookie_name, user)
        if user is None and "authorization" in headers:
            answer = await self.doorkeeper.authorization_user(headers["authorization"], address)
            if isinstance(answer, TryLater):
                return too_many_tries(answer)
            user = answer
        if user is None and not _is_startup_call(scope, headers):
            return _ask_to_log_in(scope, headers)
        scope[USER_KEY] = user
        return None


def _nothing_at(path: str) -> Response | None:
    """Refuse a path that is shut, and one that is no file's, which makes some of Gradio's routes fail."""
    if path.startswith(SHUT_PATHS):
        return PlainTextResponse("Not found.", 404)
    is_control = any(character < " " or "\x7f" <= character < "\xa0" for character in path)
    if is_control or any(
        len(part.encode("utf-8", "surrogatepass")) > MAX_NAME_BYTES for part in path.split("/")
    ):
        return PlainTextResponse("This is no address that anything is served at.", 400)
    return None


def _address(scope: Scope) -> str:
    return str((scope.get("client") or ("", 0))[0])


def _is_startup_call(scope: Scope, headers: Headers) -> bool:
    """Gradio's launch() calls its own server once, to start the queue, and cannot log in."""
    if scope["type"] != "http" or scope["method"] != "GET" or scope["path"] != STARTUP_PATH:
        return False
    if any(name in headers for name in PROXY_HEADERS):
        return False
    client, server = scope.get("client"), scope.get("server")
    # A server bound to one address of a network card is called from that same address.
    return client is not None and (is_loopback(client[0]) or (server is not None and client[0] == server[0]))


def _ask_to_log_in(scope: Scope, headers: Headers) -> Response:
    is_browser = any(name.startswith("sec-fetch-") for name in headers)
    is_page = scope.get("method") in ("GET", "HEAD") and "text/html" in headers.get("accept", "")
    if is_page and headers.get("sec-fetch-mode", "navigate") == "navigate":
        return Response(status_code=303, headers={"location": LOGIN_PATH, "cache-control": "no-store"})
    # Offered Basic, a browser would open its own password window over the page whose session has ended.
    challenge = "Bearer" if is_browser else 'Basic realm="Latent Studio", charset="UTF-8"'
    return PlainTextResponse("Log in first.", 401, headers={"www-authenticate": challenge})


def _cookie(headers: Headers, name: str) -> str | None:
    for header in headers.getlist("cookie"):
        for part in header.split(";"):
            key, _, value = part.strip().partition("=")
            if key == name:
                return value
    return None


def _with_security_headers(scope: Scope, send: Send) -> Send:
    path = scope["path"]
    is_asset = path.startswith(("/assets/", "/static/", "/svelte/"))

    async def send_with_headers(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            for name, value in SECURITY_HEADERS.items():
                headers[name] = value
            policy = FILE_POLICY if path.startswith(FILE_PATH) else PAGE_POLICY
            headers.setdefault("content-security-policy", policy)
            if not is_asset:
                headers.setdefault("cache-control", "private, no-cache")
        await send(message)

    return send_with_headers
