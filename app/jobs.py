"""The jobs, and the worker threads that work through them.

Everything else is a viewer: it submits, waits on one Condition and reads. Closing a viewer touches no job.
"""

import logging
import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from pathlib import Path

from app.comparison import Comparison
from app.database import Database
from app.engines import Engines
from app.job import WAITING_OR_RUNNING, Changes, Job, JobState, JobView, Work, readable
from app.job_queue import JobQueue
from app.job_rows import JobRows
from app.library import Library
from app.live import fleeting, take_back
from app.settings import Settings
from app.worker import Worker
from models.errors import RequestError, StudioError
from pipelines.engine import Engine
from pipelines.request import GenerationRequest

logger = logging.getLogger(__name__)

HEARTBEAT_SECONDS = 2.0  # a viewer hears from a job at least this often, so that a page that left is noticed


class Jobs:
    """A queue in front of a worker thread, which loads models and draws.

    `open_engine` is called in a worker thread alone with the folder of a model; the last few engines stay
    in memory. Jobs are rows of the database; those a killed server left behind read "interrupted".
    More than one of the `workers` are for engines that draw on other machines: each has its own engines.
    """

    def __init__(
        self,
        settings: Settings,
        database: Database,
        library: Library,
        open_engine: Callable[[Path], Engine],
        workers: int = 1,
    ) -> None:
        self._settings = settings
        self._library = library
        self._changed = Changes()
        self._queue = JobQueue(settings)
        self._running: list[Job] = []
        self._jobs: OrderedDict[str, Job] = OrderedDict()
        self.rows = JobRows(database)
        self._workers = [
            Worker(Engines(open_engine, settings.models_in_memory), library, self._changed)
            for _ in range(workers)
        ]
        self._threads = [
            threading.Thread(target=self._work, args=(worker,), name="engine", daemon=True)
            for worker in self._workers
        ]
        for thread in self._threads:
            thread.start()

    @property
    def loading(self) -> bool:
        """Whether no model is in memory yet, and one will be."""
        return any(worker.loading for worker in self._workers)

    @property
    def device(self) -> str:
        """What the model that was used last draws on, as people write it; "" before there is one."""
        return next((worker.device for worker in self._workers if worker.device), "")

    def submit(
        self,
        request: GenerationRequest,
        owner: str,
        model: Path,
        replaces: str | None = None,
        comparison: Comparison | None = None,
        work: Work | None = None,
        live: bool = False,
    ) -> Job:
        """Queue a request; the job named by `replaces` gives up its place, or is cancelled if it runs.

        A `live` one that replaces another is one more state of the same picture: when it is done, that of the
        one before goes, unless it stood for a while or is a favourite.

        With a `comparison`, the request is drawn once for each of its cells.
        With `work` it is done in the worker's thread instead of the drawing, and leaves no row and no files:
        its outcome stays in memory, the last few of all owners.
        Raises QueueFullError, for this owner or for all, and RequestError where a cell cannot be drawn.
        """
        request, now = request.resolve(), time.time()
        job = Job(secrets.token_hex(8), owner, request, model, now, comparison, work=work, live=live)
        with self._changed:
            if self._workers[0].closed:
                raise RequestError("The server is shutting down; nothing more is drawn.")
            old = self._jobs.get(replaces) if replaces is not None else None
            old = old if old is not None and old.owner == owner else None
            place = self._queue.place_for(owner, old)
            self._write(job)
            if old is not None:
                if live and old.live:
                    job.stands_for = fleeting(old, now, self._settings.live_stands_seconds)
                if old.state in WAITING_OR_RUNNING:
                    old.replaced = old.live and live
                    self._cancel(old)
            self._jobs[job.id] = job
            self._queue.insert(place, job)
            self._changed.tell(*self._queue)
        return job

    def load(self, model: Path) -> None:
        """Have the worker load a model before anybody asks for it, unless a job comes first."""
        with self._changed:
            self._workers[0].to_load = model
            self._changed.notify_all()

    def wait_until_loaded(self) -> None:
        """Return when the model that `load` named, or another before it, is in memory or has failed."""
        with self._changed:
            self._changed.wait_for(lambda: not self.loading or self._workers[0].closed)

    def cancel(self, job_id: str, owner: str) -> bool:
        """Stop a job of this owner: at once if it waits, at its next step if it runs; False if it is over."""
        with self._changed:
            job = self._jobs.get(job_id)
            if job is None or job.owner != owner or job.state not in WAITING_OR_RUNNING:
                return False
            self._cancel(job)
            return True

    def cancel_all(self, owner: str) -> int:
        """Stop everything that this owner runs or waits for; how many jobs that were."""
        return sum(self.cancel(job.id, owner) for job in self.active(owner))

    def skip(self, job_id: str, owner: str) -> bool:
        """Leave the pictures that a job of this owner draws at the moment, and go on with its next ones."""
        with self._changed:
            job = next((one for one in self._running if one.id == job_id and one.owner == owner), None)
            if job is None:
                return False
            job.skip_asked = True
            self._changed.tell(job)
            return True

    def move(self, job_id: str, owner: str, places: int) -> bool:
        """Move a waiting job of this owner among their own, as JobQueue does; False if it does not wait."""
        with self._changed:
            moved = self._queue.move(job_id, owner, places)
            if moved:
                self._changed.tell(*self._queue)
            return moved

    def again(self, job_id: str, owner: str) -> Job | None:
        """Queue anew what a server left undone, in the place of its row; None where there is no such job.

        Raises RequestError as `submit` does, and for a request that this version cannot read.
        """
        row = next((row for row in self.rows.interrupted(owner) if row["id"] == job_id), None)
        if row is None:
            return None
        comparison = Comparison.from_json(row["comparison"]) if row["comparison"] else None
        request = GenerationRequest.from_json(row["request"])
        job = self.submit(request, owner, Path(row["model"]), comparison=comparison)
        self.rows.forget(job_id, owner)
        return job

    def active(self, owner: str, looks: bool = False) -> list[Job]:
        """The jobs of this owner that run or wait, those that run first: what a reloaded page looks for.

        Those that draw pictures, or those with other work, which look into a model.
        """
        with self._changed:
            jobs = [*self._running, *self._queue]
            return [job for job in jobs if job.owner == owner and (job.work is not None) == looks]

    def latest(self, owner: str) -> Job | None:
        """The pictures that this owner submitted last, over or not, if this server still remembers them."""
        with self._changed:
            own = (job for job in reversed(self._jobs.values()) if job.owner == owner)
            return next((job for job in own if job.work is None), None)

    def find(self, job_id: str, owner: str) -> Job | None:
        """The job of this id, if it is this owner's and still remembered."""
        with self._changed:
            job = self._jobs.get(job_id)
            return job if job is not None and job.owner == owner else None

    def view(self, job: Job) -> JobView:
        """The job as it is now."""
        with self._changed:
            return job.view(self._position(job))

    def watch(self, job: Job, per_second: float | None = None) -> Iterator[JobView]:
        """Yield the newest state of a job until it is over or replaced, at most `per_second` times a second.

        States in between are skipped, the last one never. A state may come twice: something is yielded every
        few seconds even when nothing changed. Closing the iterator leaves the job alone.
        """
        pause = 1.0 / (per_second or self._settings.previews_per_second)
        seen = -1
        while True:
            with self._changed:
                if job.version == seen:
                    self._changed.wait(HEARTBEAT_SECONDS)
                seen, view = job.version, job.view(self._position(job))
            yield view
            if view.over or view.replaced:
                return
            with self._changed:
                self._changed.wait_for(lambda: job.replaced or job.state not in WAITING_OR_RUNNING, pause)

    def close(self, timeout_seconds: float = 30.0) -> None:
        """Stop the workers at their next step; what ran or waited reads "interrupted"."""
        with self._changed:
            for worker in self._workers:
                worker.closed = True
            while self._queue:
                self._finish(self._queue.popleft(), JobState.INTERRUPTED)
            self._changed.notify_all()
        until = time.monotonic() + timeout_seconds
        for thread in self._threads:
            thread.join(max(0.0, until - time.monotonic()))

    # Below: the workers' own side.

    def _work(self, worker: Worker) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._queue or worker.loading or worker.closed)
                if worker.closed:
                    return
                job = self._queue.popleft() if self._queue else None
                if job is not None:
                    self._running.append(job)
                    job.state, job.started = JobState.RUNNING, time.time()
                    self._changed.tell(job, *self._queue)
            if job is None:
                worker.load()
                continue
            state, error = JobState.FAILED, None
            try:
                self._write(job)
                state = worker.carry_out(job)
                if state is JobState.DONE:
                    for old in job.stands_for:
                        job.gone += take_back(old, self._library, self.rows)
            except StudioError as failure:
                error = str(failure)
            except Exception as failure:
                logger.exception("job %s failed", job.id)
                error = readable(failure)
            with self._changed:
                job.error = error
                self._running.remove(job)
                self._finish(job, state)

    def _cancel(self, job: Job) -> None:
        job.cancel_asked = True
        self._changed.tell(job)
        if job in self._queue:
            self._queue.remove(job)
            self._finish(job, JobState.CANCELLED)
            self._changed.tell(*self._queue)

    def _finish(self, job: Job, state: JobState) -> None:
        job.state, job.finished = state, time.time()
        job.event, job.engine, job.stands_for = None, None, ()  # latents are not kept for jobs that are over
        found = [one for one in self._jobs.values() if one.outcome is not None]
        for one in found[: -self._settings.outcomes_remembered]:
            one.outcome = None
        try:
            self._write(job)
        except StudioError as error:  # a full disk must not stop the worker: the row will read "interrupted"
            logger.warning("job %s could not be written down: %s", job.id, error)
        while len(self._jobs) > self._settings.jobs_remembered:
            oldest = next(iter(self._jobs.values()))
            if oldest.state in WAITING_OR_RUNNING:
                break
            del self._jobs[oldest.id]
        self._changed.tell(job)

    def _write(self, job: Job) -> None:
        if job.live and job.replaced:  # one for each key that is pressed: they would fill the table
            self.rows.delete(job)
        elif job.work is None:  # what other work finds lies in memory alone
            self.rows.write(job)

    def _position(self, job: Job) -> int:
        return self._queue.index(job) + len(self._running) if job in self._queue else 0
