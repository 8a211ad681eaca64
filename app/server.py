"""Starts the page: checks who could reach it first, launches Gradio behind our doors, and stops it."""

import argparse
import errno
import os
import shlex
import socket
import sys
import threading
import webbrowser
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from app.commands.options import engine_options
from app.garbage import no_search
from app.hosts import Hosts, is_loopback, parse_authority
from app.preparing import Preparations
from app.security import Accounts, read_password_file
from app.sessions import Doorkeeper
from app.settings import Settings, check_writable
from app.shelf import clear_shelves
from models.errors import RequestError, StudioError
from pipelines.remote_server import RemoteServer

if TYPE_CHECKING:  # these two take seconds to import, and a refusal must not wait for them
    import gradio as gr
    from gradio.routes import App
    from starlette.routing import BaseRoute

    from pipelines.engine import LocalEngine

# How many viewers may wait in Gradio's queue; the pictures wait in app/jobs.py, which has its own limits.
MAX_WAITING_VIEWERS = 64
MAX_FILE_BYTES = 24 * 2**20
MAX_SESSIONS_WITH_STATE = 500


@dataclass(frozen=True, slots=True)
class Doors:
    """Where the server listens, which names it answers to, who may come in (None: all of this machine)."""

    host: str
    port: int
    hosts: Hosts
    doorkeeper: Doorkeeper | None


def check(args: argparse.Namespace) -> None:
    """Refuse (RequestError) what would let strangers in, by the options alone.

    An outputs folder that cannot be written to is refused, too. Imports neither torch nor gradio and opens
    nothing, so that a refusal comes at once, before any set-up.
    """
    host = _host(args)
    Hosts(host, args.allow_host or ())
    auth_file = _auth_file(args)
    if auth_file is None and (args.share or not is_loopback(host)):
        asked = "--share" if args.share else f"--host {host}"
        raise RequestError(
            f"{asked} opens the page to others, so it needs a password: run "
            "`python launch.py auth add NAME --auth-file FILE`, then start again with --auth-file FILE."
        )
    if auth_file is not None and not read_password_file(auth_file):
        raise RequestError(
            f"There is nobody in the password file {auth_file} yet: run "
            f"`python launch.py auth add NAME --auth-file {shlex.quote(str(auth_file))}` first."
        )
    check_writable(Settings.from_environment().outputs)
    if args.backend is not None:
        RemoteServer.from_url(args.backend)


def main(args: argparse.Namespace) -> int:
    """Run the page until Ctrl+C or SIGTERM, which launch.py turns into exit codes as it does StudioError."""
    check(args)
    host, auth_file = _host(args), _auth_file(args)
    doorkeeper = None
    if auth_file is not None:
        if os.name == "posix" and auth_file.stat().st_mode & 0o077:
            print(f"Others on this machine can read {auth_file}: run chmod 600 on it.", file=sys.stderr)
        doorkeeper = Doorkeeper(Accounts(auth_file))
    doors = Doors(host, free_port(host, args.port), Hosts(host, args.allow_host or ()), doorkeeper)
    _run(args, doors)
    return 0


def _host(args: argparse.Namespace) -> str:
    host = str(args.host).strip().strip("[]").lower()
    if parse_authority(f"[{host}]" if ":" in host else host) is None:
        raise RequestError(
            f"--host {args.host!r} is no address: use 127.0.0.1 (this machine) or 0.0.0.0 (all)."
        )
    return host


def _auth_file(args: argparse.Namespace) -> Path | None:
    return None if args.auth_file is None else Path(args.auth_file).expanduser()


def free_port(host: str, port: int) -> int:
    """The port, once it is known that a server can listen there (0 finds one); an explained error else."""
    if not 0 <= port < 65536:
        raise RequestError(f"--port {port} is not a port: use a number from 1024 to 65535.")
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as probe:
            if os.name == "posix":  # elsewhere this option would let two servers share the port
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
            return int(probe.getsockname()[1])
    except socket.gaierror:
        raise RequestError(
            f"--host {host} is not known: use 127.0.0.1, 0.0.0.0 or this machine's address."
        ) from None
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise StudioError(
                f"Port {port} on {host} is taken, perhaps by a Latent Studio that still runs: stop it, or "
                "choose another port with --port."
            ) from None
        raise RequestError(f"The server cannot listen on {host}, port {port}: {error.strerror}.") from None


def launch(demo: "gr.Blocks", doors: Doors, routes: "Sequence[BaseRoute]" = (), **look: Any) -> str:
    """Start Gradio behind the doors and return the local address; `look` is theme, css, head and the like.

    `routes` are those that come before Gradio's own.
    """
    _forget_proxy_for(doors.host)
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
            state_session_capacity=MAX_SESSIONS_WITH_STATE,
            strict_cors=True,
            show_error=False,
            run_history=False,
            enable_monitoring=False,
            ssr_mode=False,
            mcp_server=False,
            pwa=False,
            footer_links=[],
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


def _run(args: argparse.Namespace, doors: Doors) -> None:
    from app.model_list import model_folders

    folders = model_folders(args.model)
    from app.model_list import model_folders

    settings = Settings.from_environment()
    backend = None
    if args.backend is not None:
        from app.backend import Backend

        backend = Backend(RemoteServer.from_url(args.backend), settings)
    folders = model_folders(args.model) if backend is None else []
    prepare_environment(settings.outputs)
    if args.device not in ("auto", "cpu"):  # which every machine has
        _local_engine()
        from pipelines.device import choose_device

        choose_device(args.device)
    with no_search(stays=True):
        from app.api.routes import routes
        from app.context import open_context
        from app.page import build_page
        from pipelines.inputs import InputStore

    preparations = Preparations()

    def open_engine(folder: Path) -> "LocalEngine":
        engine = _local_engine()
        with no_search(stays=False):
            files, inputs = settings.prompt_files, InputStore(settings.inputs)
            opened = engine(folder, args.device, files=files, inputs=inputs, **engine_options(args))
        if opened.unprepared:  # torch draws meanwhile
            preparations.ask(folder, opened.model.model_id)
        return opened

    context = open_context(
        folders,
        open_engine if backend is None else backend.open_engine,
        settings=settings,
        backend=backend,
    )
    try:
        with no_search(stays=True):
            demo, look = build_page(context)
        try:
            url = launch(demo, doors, routes(context), **look)
            print(f"Latent Studio is ready: {url}", flush=True)
            if folders:
                context.jobs.load(folders[0])
            if not is_loopback(doors.host):
                print(
                    "Passwords travel unencrypted: put an https proxy in front in networks you do not trust."
                )
            if args.share:
                url = share(demo, doors)
                print(f"Shared for up to a week: {url}", flush=True)
            if not args.no_browser:
                _open_browser(url)
            forever = threading.Event()
            while not forever.wait(1.0):  # in slices, because Windows delivers Ctrl+C between waits only
                pass
        finally:
            demo.close(verbose=False)
    finally:
        context.close()
        preparations.close()


@cache
def _local_engine() -> "type[LocalEngine]":
    """The engine's class; torch, which it brings along, takes longer to import than the page to come up."""
    with no_search(stays=True):
        from pipelines.engine import LocalEngine
    return LocalEngine


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


def _open_browser(url: str) -> None:
    # Without a screen, Python would start a text browser inside this terminal.
    has_screen = (
        sys.platform in ("win32", "darwin") or "DISPLAY" in os.environ or "WAYLAND_DISPLAY" in os.environ
    )
    if has_screen:
        webbrowser.open(url)
