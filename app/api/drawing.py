"""What the APIs of programs share: a drawing on the queue of the page, and the bodies that order it.

What is drawn lies in no folder here and in no history, unless it is to be kept: it is sent and forgotten.
"""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, replace

from PIL import Image
from starlette.requests import Request

from app.api.order import ApiError
from app.cards import ModelCard
from app.job import JobState, JobView
from app.job_queue import QueueFullError
from app.jobs import Jobs
from app.limits import MAX_BODY_BYTES
from app.middleware import USER_KEY
from models.errors import RequestError, StudioError
from pipelines.engine import Engine
from pipelines.export import encode_picture
from pipelines.request import GenerationRequest
from pipelines.result import GenerationResult, StepEvent

OWNER = "api:"  # how the owners of what programs draw begin: no page shows it
POLL_SECONDS = 0.05


@dataclass(frozen=True, slots=True, eq=False)
class Drawn:
    """One finished picture, with the request that draws it alone."""

    image: Image.Image
    request: GenerationRequest
    result: GenerationResult

    def png(self) -> bytes:
        """The picture as a file, its settings inside."""
        result = self.result
        return encode_picture(
            self.image,
            "PNG",
            self.request,
            model_name=result.model_name,
            model_id=result.model_id,
            extra=result.drawn_by,
        )


class Drawing:
    """An order in the queue; what it came to is held here alone, and let go of with it.

    It is drawn in `parts`, each of which `skip` leaves; `keep` is given each result as it comes.
    Raises ApiError where the queue takes no more.
    """

    def __init__(
        self,
        jobs: Jobs,
        request: GenerationRequest,
        card: ModelCard,
        owner: str,
        parts: Sequence[GenerationRequest] = (),
        keep: Callable[[GenerationResult], object] | None = None,
    ) -> None:
        self.jobs, self.request = jobs, request
        self.parts, self.keep = parts or (request,), keep
        self.results: list[GenerationResult] = []
        self.refused: RequestError | None = None
        self.skipped = self.interrupted = False
        try:
            self.job = jobs.submit(request, owner, card.path, work=self._work)
        except QueueFullError as error:
            raise ApiError(429, str(error), "queue_full") from None
        except StudioError as error:  # the order itself is right
            raise ApiError(503, str(error)) from None

    def view(self) -> JobView:
        """The job as it is now."""
        return self.jobs.view(self.job)

    def skip(self) -> None:
        """Leave the part that is drawn at the moment, and go on with the next."""
        self.skipped = True

    def interrupt(self) -> None:
        """Stop the drawing at its next step; the parts that are finished are its answer."""
        self.interrupted = True
        self.jobs.cancel(self.job.id, self.job.owner)

    def leave(self) -> None:
        """Stop the drawing at its next step, if it is not over; what was drawn is gone."""
        self.jobs.cancel(self.job.id, self.job.owner)
        self.results = []

    def finished(self, view: JobView) -> list[Drawn]:
        """The pictures, once the job is over; ApiError or RequestError if it came to none."""
        if self.refused is not None:
            raise self.refused
        if view.state is JobState.FAILED:
            raise ApiError(500, view.error or "Nothing was drawn.")
        if view.state is not JobState.DONE and not self.interrupted:
            raise ApiError(503, "The drawing was stopped by the server.")
        return [
            Drawn(image, request, result)
            for result in self.results
            for image, request in zip(result.images, result.pictures, strict=True)
        ]

    def _work(self, engine: Engine) -> Iterator[StepEvent | None]:
        try:
            if reason := engine.why_not(self.request):
                raise RequestError(reason)
            first = 0
            for part in self.parts:
                drawn_before = len(self.results)
                with closing(engine.generate(part)) as events:  # type: ignore[type-var]
                    for event in events:
                        if isinstance(event, GenerationResult):
                            self.results.append(event)
                            if self.keep is not None:
                                self.keep(event)
                        elif event is None:
                            yield None
                        else:
                            yield replace(event, image_index=first + event.image_index)
                        if self.skipped:
                            break
                if len(self.results) == drawn_before and not self.skipped:
                    raise StudioError(
                        "The engine ended without a picture; try again, or choose another model."
                    )
                self.skipped = False
                first += part.count
        except RequestError as error:
            self.refused = error


def owner_of(asked: Request) -> str:
    """Whose jobs those of a program are."""
    return f"{OWNER}{asked.scope.get(USER_KEY) or ''}"


async def read_body(asked: Request) -> bytes:
    """The bytes of a JSON body; ApiError where it is none or too large, ClientDisconnect where it ends."""
    # A page elsewhere can make a browser send text or a form to this machine unasked, but not JSON.
    if asked.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise ApiError(415, "Send JSON, with the header Content-Type: application/json.")
    body = b""
    async for chunk in asked.stream():
        body += chunk
        if len(body) > MAX_BODY_BYTES:
            raise ApiError(413, f"The request is larger than {MAX_BODY_BYTES // 2**20} MiB.")
    return body


async def until_over(drawing: Drawing, asked: Request) -> JobView | None:
    """The job at its end; None where the program went away before."""

    async def over() -> JobView:
        while not (view := drawing.view()).over:
            await asyncio.sleep(POLL_SECONDS)
        return view

    async def gone() -> None:
        while (await asked.receive())["type"] != "http.disconnect":
            pass

    drawn, left = asyncio.ensure_future(over()), asyncio.ensure_future(gone())
    try:
        await asyncio.wait({drawn, left}, return_when=asyncio.FIRST_COMPLETED)
        return drawn.result() if drawn.done() else None
    finally:
        for task in (drawn, left):
            task.cancel()
        with suppress(asyncio.CancelledError):
            await left
