"""Carries out one job: draws it, or does its other work; the worker thread's alone, as the engines are."""

import logging
import time
from contextlib import closing
from dataclasses import replace
from pathlib import Path

from app.engines import Engines
from app.job import Changes, Job, JobState, Piece, Work
from app.library import Library
from models.errors import RequestError, StudioError
from pipelines.result import GenerationResult, StepEvent

logger = logging.getLogger(__name__)


class Worker:
    """Works with the engines, writes pictures to the library, and tells what changed.

    Written under `changed`: `closed` has the job at hand end at its next step as "interrupted", `to_load` is
    a model to have in memory before anybody asks for one.
    """

    def __init__(self, engines: Engines, library: Library, changed: Changes) -> None:
        self.closed = False
        self.to_load: Path | None = None
        self.engines = engines
        self._library, self._changed = library, changed

    @property
    def loading(self) -> bool:
        """Whether no model is in memory yet, and one will be."""
        return self.to_load is not None and self.engines.device is None

    @property
    def device(self) -> str:
        """What the model that was used last draws on, as people write it; "" before there is one."""
        return (self.engines.device or "").upper()

    def load(self) -> None:
        """Load the model `to_load`; what fails here fails again for the first job, and is told there."""
        assert self.to_load is not None
        try:
            self.engines.get(self.to_load)
        except Exception:
            logger.exception("%s could not be loaded", self.to_load)
        with self._changed:
            self.to_load = None
            self._changed.notify_all()

    def carry_out(self, job: Job) -> JobState:
        """The state in which a job ends; it reads "failed" where this raises."""
        return self._draw(job) if job.work is None else self._look(job, job.work)

    def _draw(self, job: Job) -> JobState:
        """Run one job; pictures are on disk before anyone hears of them, and stay when it is stopped."""
        try:
            for piece in job.pieces(self.engines):
                reason = piece.engine.why_not(piece.request)
                if reason is not None:
                    raise RequestError(reason)
                with self._changed:
                    if job.engine is None:
                        job.started = time.time()  # loading the model is not part of the picture's time
                    job.engine, job.shown = piece.engine, piece.shown
                    self._changed.tell(job)
                end = self._draw_piece(job, piece)
                if end is not None:
                    return end
        finally:
            if job.comparison is not None and job.cells_drawn:
                self._add_paths(job, [self._library.save_sheet(job)])
        return JobState.DONE if job.paths else JobState.CANCELLED  # every piece was skipped

    def _draw_piece(self, job: Job, piece: Piece) -> JobState | None:
        """Draw one piece of a job; the state in which the job ends early."""
        stream = piece.engine.generate(piece.request)
        try:
            for item in stream:
                with self._changed:
                    if self.closed:
                        return JobState.INTERRUPTED
                    if job.cancel_asked:
                        return JobState.CANCELLED
                    if job.skip_asked:
                        job.skip_asked = False
                        self._changed.tell(job)
                        return None
                    if isinstance(item, StepEvent):
                        job.event = replace(item, image_index=piece.first + item.image_index)
                        done = piece.before + item.fraction_done(piece.request.count) * piece.request.count
                        job.progress.append((time.monotonic(), done / job.total))
                        self._changed.tell(job)
                if isinstance(item, GenerationResult):
                    saved = self._library.save(item, job.owner, job.id, piece.cell)
                    if piece.place is not None:
                        job.cells_drawn[piece.place] = saved[0]
                    self._add_paths(job, saved)
                    return None
        finally:
            close = getattr(stream, "close", None)  # generators have one, an engine's own iterator may not
            if close is not None:
                close()
        raise StudioError("The engine ended without a picture; try again, or choose another model.")

    def _add_paths(self, job: Job, paths: list[Path]) -> None:
        with self._changed:
            job.paths += tuple(paths)
            self._changed.tell(job)

    def _look(self, job: Job, work: Work) -> JobState:
        """Run a job that does other work than drawing."""
        engine = self.engines.get(job.model)
        with self._changed:
            job.engine, job.started = engine, time.time()
            self._changed.tell(job)
        with closing(work(engine)) as found:  # type: ignore[type-var]
            for item in found:
                with self._changed:
                    if self.closed:
                        return JobState.INTERRUPTED
                    if job.cancel_asked:
                        return JobState.CANCELLED
                    if isinstance(item, StepEvent):
                        job.event = item
                        job.progress.append((time.monotonic(), item.fraction_done(job.request.count)))
                    else:
                        job.outcome = item
                    self._changed.tell(job)
        return JobState.DONE
