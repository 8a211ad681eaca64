"""The jobs that wait: in which order, and how many may."""

from collections import deque

from app.job import Job
from app.settings import Settings
from models.errors import RequestError


class QueueFullError(RequestError):
    """There are as many jobs in the queue as may wait, of one owner or of all."""


class JobQueue(deque[Job]):
    """The jobs that wait, the next one first; for whoever holds the lock over all jobs."""

    def __init__(self, settings: Settings) -> None:
        super().__init__()
        self._settings = settings

    def place_for(self, owner: str, replaced: Job | None) -> int:
        """Where a new job of this owner goes: to the place of the one it replaces if that waits, else last.

        Raises QueueFullError, for this owner or for all; the one that is replaced does not count.
        """
        place = self.index(replaced) if replaced is not None and replaced in self else None
        waiting = len(self) - (place is not None)
        own = sum(job.owner == owner for job in self) - (place is not None)
        if own >= self._settings.queued_jobs_per_owner:
            raise QueueFullError(f"The queue is full: {own} of your jobs wait already. Let one finish first.")
        if waiting >= self._settings.queued_jobs_total:
            raise QueueFullError(f"The queue is full: {waiting} jobs wait already. Try again in a moment.")
        return len(self) if place is None else place

    def move(self, job_id: str, owner: str, places: int) -> bool:
        """Bring a job of this owner forward (places < 0) or back among their own; False if it does not wait.

        It changes places with their other jobs alone, so that nobody else's place changes.
        """
        own = [job for job in self if job.owner == owner]
        at = next((number for number, job in enumerate(own) if job.id == job_id), None)
        if at is None:
            return False
        own.insert(max(0, at + places), own.pop(at))
        in_order = iter(own)
        order = [next(in_order) if job.owner == owner else job for job in self]
        self.clear()
        self.extend(order)
        return True
