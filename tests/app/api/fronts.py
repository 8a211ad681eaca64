"""What stands on this side of another server: a page, or an engine alone."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from app.backend import Backend
from app.context import Context, open_context
from app.settings import Settings
from pipelines.http_engine import HttpEngine
from pipelines.remote_server import RemoteServer

ANN = "browser:ann"


@contextmanager
def front(url: str, outputs: Path, **options: int) -> Iterator[tuple[Context, Path]]:
    """What stands behind a page that draws on another server, and its first model."""
    settings = Settings(outputs=outputs)
    backend = Backend(RemoteServer.from_url(url), settings, **options)
    context = open_context([], backend.open_engine, settings=settings, backend=backend)
    try:
        yield context, context.models[0].path
    finally:
        context.close()


def engine_at(url: str, outputs: Path) -> HttpEngine:
    backend = Backend(RemoteServer.from_url(url), Settings(outputs=outputs))
    return backend.open_engine(next(iter(backend.cards)))
