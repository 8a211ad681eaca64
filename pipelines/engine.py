"""The seam between those who ask for pictures and what draws them. No torch."""

from collections.abc import Iterator
from typing import Protocol

from pipelines.request import GenerationRequest
from pipelines.result import GenerationResult, StepEvent


class Engine(Protocol):
    """What draws pictures: here, or on another machine."""

    def generate(self, request: GenerationRequest) -> Iterator[StepEvent | GenerationResult | None]:
        """Yield one StepEvent per step, then the GenerationResult; closing the iterator stops the work.

        An engine that waits for something yields None now and then, so that it can be closed meanwhile.
        """

    def why_not(self, request: GenerationRequest) -> str | None:
        """A sentence saying why this engine cannot do this request, or None if it can."""

    def batch_images(self, request: GenerationRequest) -> int:
        """How many pictures of a request are drawn at a time: what it asks for, or what memory takes."""
