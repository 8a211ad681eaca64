import ipaddress
import os
import signal
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock
from hypothesis import HealthCheck, settings

import launch
from pipelines.runners.folder import GRAPHS_VARIABLE
from tests.commands import Generate
from tests.newcomer import Studio

# How long an example takes says more about the machine than about us. The examples are the same at all times;
# `launch.py test --hypothesis-profile searching` looks for others.
settings.register_profile("searching", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("any machine", settings.get_profile("searching"), derandomize=True)
settings.load_profile("any machine")


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup() -> None:
    seed_torch()


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_call() -> None:
    seed_torch()  # again: what others share may be there already, and draws nothing then


def seed_torch() -> None:
    """Let a test draw the same numbers in any order; pytest-randomly does so for Python's and numpy's own."""
    if torch := sys.modules.get("torch"):
        torch.manual_seed(1234)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out tests marked `cuda` where no NVIDIA GPU can run them, also without `launch.py test`."""
    from app.commands.test import cuda_works

    on_gpu = [item for item in items if item.get_closest_marker("cuda")]
    if on_gpu and not cuda_works():
        items[:] = [item for item in items if item not in on_gpu]
        config.hook.pytest_deselected(items=on_gpu)


@pytest.fixture(autouse=True, scope="session")
def loopback_only() -> Iterator[None]:
    """Connections leave this machine in no test: what needs the network must not be needed."""

    def allowed(self: socket.socket, address: Any) -> bool:
        if self.family not in (socket.AF_INET, socket.AF_INET6):
            return True
        host = str(address[0]).partition("%")[0]
        try:
            return ipaddress.ip_address(host).is_loopback
        except ValueError:
            return host == "localhost"

    def guarded(original: Any) -> Any:
        def connect(self: socket.socket, address: Any) -> Any:
            if not allowed(self, address):
                raise OSError(f"a test tried to reach {address}; tests stay on this machine")
            return original(self, address)

        return connect

    with pytest.MonkeyPatch.context() as patch:
        for name in ("connect", "connect_ex"):
            patch.setattr(socket.socket, name, guarded(getattr(socket.socket, name)))
        yield


@pytest.fixture(autouse=True)
def surroundings_as_they_were() -> Iterator[None]:
    """Commands set variables and a handler for the rest of their process, which goes on here."""
    before, handler = dict(os.environ), signal.getsignal(signal.SIGTERM)
    yield
    for name in os.environ.keys() - before.keys() - {"PYTEST_CURRENT_TEST"}:
        del os.environ[name]
    os.environ.update(before)
    if signal.getsignal(signal.SIGTERM) != handler:
        signal.signal(signal.SIGTERM, handler)


@pytest.fixture(autouse=True, scope="module")
def graphs_apart(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What is converted for OpenVINO goes with the tests.

    So does what was measured: in the others `auto` draws on torch, whichever engine was faster in one file.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(GRAPHS_VARIABLE, str(tmp_path_factory.mktemp("graphs")))
        yield


@pytest.fixture(scope="session")
def tiny_model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny flow model; read only, so copy it to change it."""
    from tests.tiny import make_tiny_model

    return make_tiny_model(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="session")
def taught_model_folder(tiny_model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model with a student of two steps; read only."""
    from tests.tiny import with_student

    return with_student(tiny_model_folder, tmp_path_factory.mktemp("models") / "taught")


@pytest.fixture
def new_studio(tmp_path: Path) -> Studio:
    """A machine on which nothing is set up."""
    return Studio.build(tmp_path)


@pytest.fixture(scope="session")
def starter_dataset(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Path:
    """The starter's dataset, built from the registry beside what is left of a building that was cut off.

    Once for all processes that the tests are shared out over.
    """
    from training.data import starter

    own = tmp_path_factory.getbasetemp()
    folder = (own if worker_id == "master" else own.parent) / "dataset"
    with FileLock(f"{folder}.lock"):
        if not (folder / "starter").exists():
            (folder / "starter.partial").mkdir(parents=True, exist_ok=True)
            (folder / "starter.partial/old.png").touch()
            assert starter.main(folder / "starter") == 0
    return folder / "starter"


@pytest.fixture
def generate(
    tiny_model_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Generate:
    """Run the command in this process, where torch is there already; gives the lines it prints."""
    for name, value in launch.ENVIRONMENT.items():
        monkeypatch.setenv(name, value)

    def run(*words: str | Path, expect: int = 0) -> list[str]:
        argv = ["generate", "--no-setup", "--model", tiny_model_folder, "--device", "cpu", *words]
        capsys.readouterr()
        exit_code = launch.main([str(word) for word in argv])
        said = capsys.readouterr()
        assert exit_code == expect, said.err
        return said.out.splitlines() if expect == 0 else said.err.splitlines()

    return run
