"""The one way into Latent Studio: `python launch.py [command]`, where `--help` names the commands.

Where packages are missing it first makes ./.venv, installs them there and goes on in it. This file, and what
it imports before that, use the standard library alone.
"""

from __future__ import annotations  # so that an old Python gets as far as the sentence that tells it so

import hashlib
import importlib.metadata
import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import time
import traceback
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parent
VENV = ROOT / ".venv"
VENV_PYTHON = VENV / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
VENV_MARK = VENV / "made-by-launch.txt"  # only an environment that holds this file is ever installed into
LOCK = ROOT / ".venv.lock"
OLDEST_PYTHON = (3, 11)
OLDEST_TORCH = (2, 10)
HANDED_OVER = "LATENT_STUDIO_HANDED_OVER"
ENVIRONMENT = {
    "OMP_WAIT_POLICY": "passive",  # idle threads that spin starve the page and every other program
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "GRADIO_ANALYTICS_ENABLED": "False",
    "DO_NOT_TRACK": "1",
    "DIFFUSERS_VERBOSITY": "error",  # their warnings are for programmers; what a person must know we say
    "TRANSFORMERS_VERBOSITY": "error",
}


class SetupError(Exception):
    """The packages are not there and could not be put there; the message says what to type."""


def main(argv: list[str]) -> int:
    """Carry out one command line; returns its exit code: 0 done, 2 wrong request, 1 failed, 130, 143."""
    if sys.version_info < OLDEST_PYTHON:
        print(_python_too_old(), file=sys.stderr)
        return 1
    from app.commands.parser import parse
    from app.threads import set_threads
    from models.errors import StudioError

    handed_over = os.environ.pop(HANDED_OVER, None) is not None
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    signal.signal(signal.SIGTERM, _terminate)
    try:
        args = parse(argv)
        args.check(args)
        if not args.no_setup:
            set_up(ROOT / args.requirements, argv, handed_over)
        if args.command != "test":  # which shares the cores out over its processes
            set_threads(os.environ)
        exit_code: int = args.action(args)
        sys.stdout.flush()
        return exit_code
    except StudioError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    except SetupError as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("Stopped.", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # Whoever read our output has gone; Python's own flush at exit must not fail again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as error:
        traceback.print_exc()
        print(f"Latent Studio failed unexpectedly, at the place shown above: {error!r}", file=sys.stderr)
        return 1


def set_up(requirements: Path, argv: list[str], handed_over: bool) -> None:
    """Return when this Python has every pinned package; else go on in ./.venv, made and filled if need be."""
    missing = missing_packages(requirements)
    if not missing:
        return
    if handed_over or "RANK" in os.environ or "LOCAL_RANK" in os.environ:
        # A second hand-over could go round for ever; the processes of one training run must not all install.
        raise SetupError(
            f"{sys.executable} lacks {', '.join(missing)}. {_by_hand(requirements)} "
            f"Then use {VENV_PYTHON}; or delete {VENV} and run `python launch.py` once."
        )
    fill_venv(requirements)
    hand_over([str(VENV_PYTHON), str(ROOT / "launch.py"), *argv], os.environ | {HANDED_OVER: "1"})


def missing_packages(requirements: Path) -> list[str]:
    """The lines of a requirements file that this Python does not hold; any torch from 2.10 on will do."""
    missing: list[str] = []
    for line in requirements.read_text(encoding="utf-8").splitlines():
        requirement = line.partition("#")[0].strip()
        if requirement.startswith("-r "):
            missing += missing_packages(requirements.parent / requirement[3:].strip())
        elif requirement:
            name, _, wanted = requirement.partition("==")
            try:
                # ray[serve] is a ray, and 2.13.0+cpu a 2.13.0.
                found = importlib.metadata.version(name.partition("[")[0]).partition("+")[0]
            except importlib.metadata.PackageNotFoundError:
                missing.append(requirement)
                continue
            new_enough = name == "torch" and tuple(map(int, found.split(".")[:2])) >= OLDEST_TORCH
            if found != wanted and not new_enough:
                missing.append(requirement)
    return missing


def fill_venv(requirements: Path) -> None:
    """Make ./.venv and install into it, one process at a time; does nothing where the stamp is right."""
    stamp = VENV / f"installed-{requirements.stem}.txt"
    # The tests' file builds on others, so its stamp must change with any of them.
    texts = sorted(_with_those_it_names(requirements))
    wanted = hashlib.sha256(b"\0".join(path.read_bytes() for path in texts)).hexdigest()
    if _is_ready(stamp, wanted):
        return
    with _locked():
        if _is_ready(stamp, wanted):  # another process has done it meanwhile
            return
        if VENV.exists() and not VENV_MARK.exists():
            if VENV_PYTHON.exists():
                return  # made by hand: used as it is, never installed into
            raise SetupError(f"{VENV} is no virtual environment: move it out of the way and start again.")
        if importlib.util.find_spec("venv") is None or importlib.util.find_spec("ensurepip") is None:
            raise SetupError(
                "This Python cannot make virtual environments; on Debian and Ubuntu type "
                f"`sudo apt install python{sys.version_info[0]}.{sys.version_info[1]}-venv` and start again."
            )
        _say(f"Setting up {VENV}: once, some minutes; torch alone is 0.2 to 3 GB to download.")
        if not VENV_PYTHON.exists() or VENV_MARK.read_text() != "complete":
            shutil.rmtree(VENV, ignore_errors=True)  # half of one cannot be mended
            VENV.mkdir()
            VENV_MARK.write_text("begun")
            _run([sys.executable, "-m", "venv", str(VENV)], "could not make a virtual environment")
            VENV_MARK.write_text("complete")
        stamp.unlink(missing_ok=True)
        pip = [str(VENV_PYTHON), "-m", "pip", "--disable-pip-version-check", "install"]
        _run([*pip, "-r", str(requirements)], f"could not install the packages. {_by_hand(requirements)}")
        stamp.write_text(wanted)
        _say("The packages are in.")


def hand_over(command: list[str], environment: dict[str, str], replace: bool = os.name != "nt") -> NoReturn:
    """Become another program, or on Windows, which cannot, run it and end as it ends."""
    sys.stdout.flush()
    sys.stderr.flush()
    if replace:
        os.execve(command[0], command, environment)  # noqa: S606
    # The console sends Ctrl+C to the child as well, which decides how to end (and would inherit SIG_IGN).
    signal.signal(signal.SIGINT, lambda *_: None)
    sys.exit(subprocess.Popen(command, env=environment).wait())  # noqa: S603


def _is_ready(stamp: Path, wanted: str) -> bool:
    return VENV_PYTHON.exists() and stamp.exists() and stamp.read_text() == wanted


@contextmanager
def _locked() -> Iterator[None]:
    """Hold the lock file; a process that dies lets go of it."""
    try:
        file = LOCK.open("a")
    except OSError as error:
        raise SetupError(
            f"{ROOT} cannot be written to ({error.strerror}), so no packages can be installed there: copy "
            "the folder to a place of yours, or install the packages of requirements.txt into this Python."
        ) from None
    with file:
        said = False
        while not _try_lock(file.fileno()):
            if not said:
                _say("Another start of Latent Studio is setting up; waiting for it.")
                said = True
            time.sleep(0.3)
        yield


def _try_lock(descriptor: int) -> bool:
    try:
        if sys.platform == "win32":
            import msvcrt

            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _run(command: list[str], failure: str) -> None:
    """Run a part of the set-up, what it says going to stderr: stdout belongs to the command's own result."""
    if subprocess.run(command, stdout=sys.stderr, check=False).returncode:  # noqa: S603
        raise SetupError(f"Set-up {failure}")


def _with_those_it_names(requirements: Path) -> set[Path]:
    """A requirements file, and those that its lines `-r FILE` lead to."""
    lines = requirements.read_text(encoding="utf-8").splitlines()
    named = [requirements.parent / line[3:].strip() for line in lines if line.startswith("-r ")]
    return {requirements}.union(*(_with_those_it_names(path) for path in named))


def _by_hand(requirements: Path) -> str:
    return f"By hand: `python -m venv .venv && {VENV_PYTHON} -m pip install -r {requirements}`."


def _python_too_old() -> str:
    needed, found = (".".join(map(str, version[:2])) for version in (OLDEST_PYTHON, sys.version_info))
    return f"Latent Studio needs Python {needed} or newer, and this is {found}: type python{needed} launch.py"


def _terminate(_signal: int, _frame: object) -> NoReturn:
    sys.exit(143)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
