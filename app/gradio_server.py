"""Gradio behind our doors: what it is started with, and the tunnel of `--share`."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from app.hosts import Hosts
from app.limits import (
    CACHE_LOOK_SECONDS,
    CACHE_SECONDS,
    MAX_FILE_BYTES,
    MAX_SESSIONS_WITH_STATE,
    MAX_THREADS,
    MAX_WAITING_VIEWERS,
)
from app.sessions import Doorkeeper
from app.shelf import clear_shelves
from models.errors import RequestError, StudioError

if TYPE_CHECKING:  # these two take seconds to import, and a refusal must not wait for them
    import gradio as gr
    from gradio.routes import App
    from starlette.routing import BaseRoute


@dataclass(frozen=True, slots=True)
class Doors:
    """Where the server listens, which names it answers to, who may come in (None: all of this machine)."""

    host: str
    port: int
    hosts: Hosts
    doorkeeper: Doorkeeper | None


def launch(demo: "gr.Blocks", doors: Doors, routes: "Sequence[BaseRoute]" = (), **look: Any) -> str:
    """Start Gradio behind the doors and return the local address; `look` is theme, css, head and the like.

    `routes` are those that come before Gradio's own.
    """
    _forget_proxy_for(doors.host)
    demo.delete_cache = (CACHE_LOOK_SECONDS, CACHE_SECONDS)
    demo.queue(max_size=MAX_WAITING_VIEWERS, default_concurrency_limit=4, api_open=False)
    try:
        _, local_url, _ = demo.launch(
            _app=_guarded_app(doors, routes),
            auth_dependency=None if doors.doorkeeper is None else _user,
            server_name=f"[{doors.host}]" if ":" in doors.host else doors.host,
            server_port=doors.port,
            prevent_thread_lock=True,
            quiet=True,
            inbrowser=False,
            # With share=True Gradio would serve a page that loads its scripts from a server of theirs.
            share=False,
            root_path="",
            max_file_size=MAX_FILE_BYTES,
            max_threads=MAX_THREADS,
            state_session_capacity=MAX_SESSIONS_WITH_STATE,
            strict_cors=True,
            show_error=False,
            run_history=False,
            enable_monitoring=False,
            ssr_mode=False,
            mcp_server=False,
            pwa=False,
            footer_links=[],
            # Else it asks once more whether the server answers, now with a page, within three seconds.
            _frontend=False,
            **look,
        )
    except OSError as error:
        # The port was free just now; Gradio says this, too, of a server that took over five seconds to start.
        raise StudioError(
            f"The server did not start on {doors.host}, port {doors.port} ({error}): try again, the machine "
            "may be busy, or choose another port with --port."
        ) from None
    return local_url


def share(demo: "gr.Blocks", doors: Doors) -> str:
    """Open Gradio's tunnel to the running page and return its public address; StudioError without one."""
    from gradio.networking import setup_tunnel

    try:
        url = setup_tunnel(called_at(doors.host), doors.port, demo.share_token, None, None)
    except Exception as error:  # whatever the network, the download or the tunnel program came upon
        raise StudioError(
            f"No share link could be made ({error}): check the connection to the internet, or start without "
            "--share and use --host with --auth-file in your own network."
        ) from None
    name = url.partition("://")[2].strip("/")
    doors.hosts.allow(name, https=True)
    return f"https://{name}"


def called_at(host: str) -> str:
    """The address at which this machine itself reaches a server that listens on `host`."""
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104


def prepare_environment(outputs: Path) -> None:
    """Settle what Gradio reads from the environment while it is imported; call before that."""
    # Settings meant for another Gradio application must not open doors here.
    for name in [name for name in os.environ if name.startswith("GRADIO_") and name != "GRADIO_TEMP_DIR"]:
        del os.environ[name]
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    # Uploads, and pictures on their way to a page, lie beside the pictures and not where everybody can look.
    cache = outputs / "cache"
    try:
        cache.mkdir(parents=True, exist_ok=True)
        cache.chmod(0o700)
    except OSError as error:  # a disk that may only be read, a folder of somebody else's
        raise RequestError(f"The pictures cannot go to {outputs}: {error.strerror}.") from None
    clear_shelves(cache)
    os.environ.setdefault("GRADIO_TEMP_DIR", str(cache))


def _guarded_app(doors: Doors, routes: "Sequence[BaseRoute]") -> "App":
    from gradio.routes import App, ORJSONResponse
    from starlette.types import ASGIApp

    from app.middleware import Guard

    class GuardedApp(App):
        """Gradio's application with our doors outside its own middleware, which answers some requests."""

        def build_middleware_stack(self) -> ASGIApp:
            inner = super().build_middleware_stack()
            # Cookies do not know ports: the name tells two studios on one machine apart.
            return Guard(inner, doors.hosts, doors.doorkeeper, cookie_name=f"latent_studio_{doors.port}")

    return GuardedApp(routes=list(routes), default_response_class=ORJSONResponse, openapi_url=None)


def _user(request: Any) -> str | None:
    """Who the doors found; Gradio asks on its own routes, and hands it to handlers as the username."""
    from app.middleware import USER_KEY

    user: str | None = request.scope.get(USER_KEY)
    return user


def _forget_proxy_for(host: str) -> None:
    """Gradio calls its own server while it starts; a proxy from the environment must not stand in between."""
    for variable in ("NO_PROXY", "no_proxy"):
        names = [name for name in os.environ.get(variable, "").split(",") if name]
        names += [name for name in ("127.0.0.1", "localhost", "::1", host) if name not in names]
        os.environ[variable] = ",".join(names)
