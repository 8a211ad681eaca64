import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from app import server
from app.security import set_password
from tests.app.doors import PASSWORD, Studio, start


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
