"""Small real engines: they keep the engine's promise (steps, then pictures), at a pace that a test sets."""

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from PIL import Image

from pipelines.request import GenerationRequest
from pipelines.result import GenerationResult, StepEvent

HOLD_SECONDS = 600  # for a test that looks on through a browser, on a machine with other work


class PacedEngine:
    """Draws flat squares; a `gate` lets one step through per release. A prompt with "fail" fails."""

    def __init__(self, folder: Path, gate: threading.Semaphore | None = None, seconds: float = 0.0) -> None:
        self.folder, self.gate, self.seconds = folder, gate, seconds
        self.steps_done, self.closed_early, self.at_once = 0, 0, 8
        self.threads: set[str] = set()

    def why_not(self, request: GenerationRequest) -> str | None:
        return "No picture is wider than 1024 here." if request.width > 1024 else None

    def batch_images(self, request: GenerationRequest) -> int:
        return self.at_once

    def generate(self, request: GenerationRequest) -> Iterator[StepEvent | GenerationResult]:
        self.threads.add(threading.current_thread().name)
        over = False
        try:
            for index in range(request.count):
                for step in range(1, request.steps + 1):
                    if self.gate is not None:
                        assert self.gate.acquire(timeout=HOLD_SECONDS)
                    time.sleep(self.seconds)
                    if "fail" in request.prompt:
                        raise RuntimeError("the numbers exploded")
                    self.steps_done += 1
                    yield StepEvent(
                        image_index=index, images=1, step=step, total=request.steps, sigma=1.0, latents=None,
                        denoised=None,
                    )  # fmt: skip
            over = True
            assert request.seed is not None
            size = (request.width, request.height)
            images = [
                Image.new("RGB", size, ((request.seed + i) % 256, 90, 120)) for i in range(request.count)
            ]
            yield GenerationResult(
                images=images, request=request, model_name=self.folder.name, model_id="0123456789",
                engine="paced", seconds=0.1,
            )  # fmt: skip
        finally:
            self.closed_early += not over


def step_by_step(gate: threading.Semaphore) -> Callable[[Path], Any]:
    """Opens engines that draw in earnest: a step, or the result, comes out for each release of the gate."""
    from pipelines.local_engine import LocalEngine

    class StepByStep(LocalEngine):
        def generate(self, request: GenerationRequest) -> Iterator[StepEvent | GenerationResult]:
            for event in super().generate(request):
                assert gate.acquire(timeout=HOLD_SECONDS)
                yield event

    return lambda folder: StepByStep(folder, "cpu")


def a_request(prompt: str = "a red apple", **changes: object) -> GenerationRequest:
    values = {"width": 32, "height": 32, "steps": 3, "guidance_scale": 1.0, "sampler": "Euler", "seed": 7}
    return GenerationRequest.from_dict({"prompt": prompt, **values, **changes})
