"""How a tab has the one worker look into a model: submit, watch, and say in a sentence why not."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from app import text
from app.context import Context
from app.job import JobView, Work
from app.tabs.events import refusal
from models.errors import RequestError, StudioError
from pipelines.engine import Engine
from pipelines.request import GenerationRequest

if TYPE_CHECKING:  # torch takes seconds to import, and the page is up before anything is looked at
    from pipelines.local_engine import LocalEngine


def run(context: Context, owner: str, asked: GenerationRequest, model: Path, work: Work) -> Iterator[JobView]:
    """The states of a new look, which takes the place of the one that this owner waits for."""
    before = context.jobs.active(owner, looks=True)
    try:
        job = context.jobs.submit(asked, owner, model, before[-1].id if before else None, work=work)
    except StudioError as error:
        raise refusal(error) from None
    yield from context.jobs.watch(job)


def local(engine: Engine) -> "LocalEngine":
    """The engine, whose model lies on this machine; RequestError where it does not."""
    from pipelines.local_engine import LocalEngine

    if not isinstance(engine, LocalEngine):
        raise RequestError(text.INSIDE_HERE_ONLY)
    return engine
