"""What a job is, and what a viewer sees of it."""

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from app.comparison import Comparison
from app.engines import Engines
from pipelines.engine import Engine
from pipelines.request import GenerationRequest
from pipelines.result import StepEvent

RATE_STEPS = 12  # seconds left follow the last steps, not the first ones, which warm the caches up


# What a job does with an engine instead of drawing: yields StepEvents, and last what it found, which is kept
# in memory as the job's outcome. Closing the iterator stops it.
Work = Callable[[Engine], Iterator[object]]


class JobState(StrEnum):
    """A job is queued, then running, then one of the rest for good."""

    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    CANCELLED = "cancelled"
    FAILED = "failed"
    INTERRUPTED = "interrupted"


WAITING_OR_RUNNING = (JobState.QUEUED, JobState.RUNNING)


class Changes(threading.Condition):
    """The one lock over all jobs, on which viewers wait for news."""

    def tell(self, *jobs: "Job") -> None:
        """Wake the viewers of jobs that changed; under the lock."""
        for job in jobs:
            job.version += 1
        self.notify_all()


@dataclass(frozen=True, slots=True, eq=False)
class Piece:
    """What of a job is drawn in one call of an engine.

    `shown` is the request that its pictures are the images `first` and following of, and `before` how many
    pictures of the job are drawn earlier. In a comparison `cell` counts and `place` is that of Axis values.
    """

    engine: Engine
    request: GenerationRequest
    shown: GenerationRequest
    first: int
    before: int
    cell: int | None = None
    place: tuple[int, ...] | None = None


@dataclass(slots=True, eq=False)
class Job:
    """One request of one owner; written under the Condition of the queue alone. Times are Unix seconds.

    `shown` is the request that the latest event is about: that of a cell in a comparison, else its own.
    With `work` it is done instead of the drawing: `outcome` is what it found, while that is remembered.
    A `live` one follows what a person types, until it is `replaced` by the next. When it is done, `gone` are
    the pictures of the live jobs that it `stands_for`, which nobody had the time to look at.
    """

    id: str
    owner: str
    request: GenerationRequest
    model: Path
    created: float
    comparison: Comparison | None = None
    state: JobState = JobState.QUEUED
    event: StepEvent | None = None
    engine: Engine | None = None
    paths: tuple[Path, ...] = ()
    work: Work | None = None
    outcome: object = None
    error: str | None = None
    started: float | None = None
    finished: float | None = None
    cancel_asked: bool = False
    skip_asked: bool = False
    live: bool = False
    replaced: bool = False
    stands_for: "tuple[Job, ...]" = ()
    gone: tuple[Path, ...] = ()
    version: int = 0
    total: int = field(init=False)
    shown: GenerationRequest = field(init=False)
    cells_drawn: dict[tuple[int, ...], Path] = field(default_factory=dict)
    progress: deque[tuple[float, float]] = field(default_factory=lambda: deque(maxlen=RATE_STEPS))

    def __post_init__(self) -> None:
        self.shown = self.request
        cells = None if self.comparison is None else self.comparison.cells(self.request)
        self.total = self.request.count if cells is None else len(cells)

    def pieces(self, engines: Engines) -> Iterator[Piece]:
        """What is to be drawn, as much at a time as the engine takes; engines are opened in their turn."""
        request = self.request
        if self.comparison is None:
            engine = engines.get(self.model)
            at_once = engine.batch_images(request)
            for first in range(0, request.count, at_once):
                part = request.part(first, min(at_once, request.count - first))
                yield Piece(engine, part, request, first, first)
            return
        with self.comparison.folders() as folder_of:
            for number, cell in enumerate(self.comparison.cells(request)):
                model = self.model if cell.model is None else folder_of(cell.model)
                yield Piece(engines.get(model), cell.request, cell.request, 0, number, number, cell.place)

    def view(self, position: int) -> "JobView":
        """The job as it is now, `position` jobs before it."""
        fraction = self.progress[-1][1] if self.progress else 0.0
        seconds_left = None
        if len(self.progress) >= 2:
            (then, done_then), (last, done) = self.progress[0], self.progress[-1]
            left = (1.0 - done) * (last - then) / (done - done_then) if done > done_then else 0.0
            seconds_left = max(0.0, left - (time.monotonic() - last))
        end = time.time() if self.finished is None else self.finished
        return JobView(
            id=self.id,
            state=self.state,
            request=self.shown,
            total=self.total,
            model=self.model,
            event=self.event,
            engine=self.engine,
            paths=self.paths,
            outcome=self.outcome,
            error=self.error,
            position=position,
            fraction=1.0 if self.state is JobState.DONE else fraction,
            seconds_left=seconds_left,
            seconds=0.0 if self.started is None else end - self.started,
            stopping=self.cancel_asked,
            skipping=self.skip_asked,
            live=self.live,
            replaced=self.replaced,
            gone=self.gone,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class JobView:
    """What a viewer sees of a job at one moment.

    `request` is what the event is about, `total` how many pictures there will be. `position` jobs are before
    it, `fraction` is 0 to 1, `paths` are the pictures that are finished so far.
    """

    id: str
    state: JobState
    request: GenerationRequest
    total: int
    model: Path
    event: StepEvent | None
    engine: Engine | None
    paths: tuple[Path, ...]
    outcome: object
    error: str | None
    position: int
    fraction: float
    seconds_left: float | None
    seconds: float
    stopping: bool
    skipping: bool
    live: bool
    replaced: bool
    gone: tuple[Path, ...]

    @property
    def over(self) -> bool:
        """Whether the job has come to an end, good or bad."""
        return self.state not in WAITING_OR_RUNNING


def readable(failure: Exception) -> str:
    """One sentence for a person about an error that nobody foresaw; the log has the rest."""
    text = " ".join(str(failure).split())
    if (
        isinstance(failure, MemoryError)
        or "out of memory" in text.lower()
        or "can't allocate" in text.lower()
    ):
        return "There is not enough memory for this picture; choose a smaller size or draw fewer at once."
    if isinstance(failure, OSError) and failure.strerror:
        return f"The picture could not be written: {failure.strerror}."
    shown = text if len(text) <= 200 else f"{text[:197]}..."
    return (
        f"Drawing failed unexpectedly ({type(failure).__name__}: {shown}). The server's log has the details."
    )
