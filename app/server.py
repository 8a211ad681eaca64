"""Starts the page: checks who could reach it first, launches Gradio behind our doors, and stops it."""

import argparse
import errno
import os
import shlex
import socket
import sys
import threading
import webbrowser
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from app.commands.options import engine_options
from app.garbage import no_search
from app.gradio_server import Doors, launch, prepare_environment, share
from app.hosts import Hosts, is_loopback, parse_authority
from app.log import log_to_stderr
from app.preparing import Preparations
from app.security import Accounts, read_password_file
from app.sessions import Doorkeeper
from app.settings import Settings, check_writable
from models.errors import RequestError, StudioError
from pipelines.remote_server import RemoteServer

if TYPE_CHECKING:  # torch takes seconds to import, and a refusal must not wait for it
    from pipelines.local_engine import LocalEngine

SHARED = """\
Shared: {url}
Anybody on the internet can reach this link for up to a week; it goes through a machine of Gradio's.
Only the people in {file} can log in, with the passwords of `python launch.py auth add`; Ctrl+C ends it."""


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
    log_to_stderr()
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


def _run(args: argparse.Namespace, doors: Doors) -> None:
    from app.model_list import model_folders

    settings = Settings.from_environment()
    backend = None
    if args.backend is not None:
        from app.backend import Backend

        backend = Backend(RemoteServer.from_url(args.backend), settings, args.backend_jobs)
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

    preparations, asked = Preparations(), args.model.expanduser().resolve()
    controlnets = settings.controlnets  # one of all engines, since it keeps nets in memory

    def open_engine(folder: Path) -> "LocalEngine":
        engine = _local_engine()
        with no_search(stays=False):
            files, inputs = settings.prompt_files, InputStore(settings.inputs)
            options = {"files": files, "inputs": inputs, "controlnets": controlnets, **engine_options(args)}
            vae = args.vae if folder == asked else None  # other models have other latents
            opened = engine(folder, args.device, vae=vae, **options)
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
                print(SHARED.format(url=url, file=_auth_file(args)), flush=True)
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
        from pipelines.local_engine import LocalEngine
    return LocalEngine


def _open_browser(url: str) -> None:
    # Without a screen, Python would start a text browser inside this terminal.
    has_screen = (
        sys.platform in ("win32", "darwin") or "DISPLAY" in os.environ or "WAYLAND_DISPLAY" in os.environ
    )
    if has_screen:
        webbrowser.open(url)
