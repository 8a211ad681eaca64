"""What `benchmark inference` compares: the loop of diffusers' documentation and the engines here."""

import inspect
import multiprocessing
import time
from importlib.metadata import version
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from evaluation import diffusers_loop
from evaluation.diffusers_loop import Mark
from models.errors import StudioError
from models.folder import load_model
from pipelines.local_engine import LocalEngine
from pipelines.request import GenerationRequest
from pipelines.result import GenerationResult
from training.trackers import memory_bytes

REFERENCE = "diffusers"
PARTS = ("text", "unet", "decoder")
WALL, CPU = 0, 1  # the clocks of a Stopwatch
# What LocalEngine is told, beside the model and that it runs on the processor.
ENGINES: dict[str, dict[str, Any]] = {
    "torch": {},
    "torch-bf16": {"dtype": torch.bfloat16},
    "openvino": {"runner": "openvino"},
}


class Stopwatch:
    """Seconds on the wall and of the processor, [wall, cpu], of each part of the drawing of a picture."""

    def __init__(self) -> None:
        self.taken: dict[str, NDArray[np.float64]] = {}
        self._last = self._now()

    def mark(self, part: str) -> None:
        """The part has just ended, or a piece of it."""
        now = self._now()
        self.taken[part] = self.taken.get(part, 0) + now - self._last
        self._last = now

    def parts(self, steps: int) -> NDArray[np.float64]:
        """Seconds of PARTS, (3, 2).

        An engine tells of its first step only when that is over. What this took longer than a later one went
        into the text, and into what else is done once.
        """
        taken = dict(self.taken)
        if "first step" in taken:
            first, later = taken["first step"], taken["unet"]
            step = np.minimum(first, later / (steps - 1))
            taken |= {"text": first - step, "unet": later + step}
        return np.stack([taken[part] for part in PARTS])

    @staticmethod
    def _now() -> NDArray[np.float64]:
        return np.array([time.perf_counter(), time.process_time()])


class Contender(Protocol):
    """One that draws with a model; `ran_on` is what it says of itself."""

    ran_on: str

    def draw(self, request: GenerationRequest, mark: Mark) -> list[Image.Image]:
        """The pictures of a request; marks the parts as they end."""


class Loop:
    """The loop of diffusers' documentation."""

    def __init__(self, folder: Path) -> None:
        self.model = load_model(folder)
        self.ran_on = f"diffusers {version('diffusers')}, torch {version('torch')} eager float32"

    def draw(self, request: GenerationRequest, mark: Mark) -> list[Image.Image]:
        """The pictures of a request; marks "text", "unet" and "decoder"."""
        return diffusers_loop.draw(self.model, request, mark)


class Local:
    """One of ENGINES; StudioError where it is not to be had here."""

    def __init__(self, folder: Path, name: str) -> None:
        if name not in usable_engines():
            raise StudioError("this version has no such engine")
        self.engine = LocalEngine(folder, "cpu", **ENGINES[name])
        self.ran_on = self.engine.name

    def draw(self, request: GenerationRequest, mark: Mark) -> list[Image.Image]:
        """The pictures of a request; marks "first step", the others as "unet", and "decoder"."""
        for event in self.engine.generate(request):
            if isinstance(event, GenerationResult):
                mark("decoder")
                self.ran_on = event.engine  # which may be another for this request than the engine's own
                return event.images
            mark("first step" if event.step == 1 else "unet")
        raise AssertionError("an engine ends with its result")


def usable_engines() -> list[str]:
    """The names of ENGINES whose settings LocalEngine knows."""
    known = inspect.signature(LocalEngine).parameters
    return [name for name, settings in ENGINES.items() if settings.keys() <= known.keys()]


def usual_engines() -> list[str]:
    """The names of ENGINES without bfloat16 where the processor does not compute in it: it takes minutes."""
    has_bf16 = torch.cpu.get_capabilities().get("avx512_bf16")
    return [name for name, settings in ENGINES.items() if has_bf16 or "dtype" not in settings]


def open_contender(name: str, folder: Path) -> Contender:
    """The reference or an engine by name, each with weights of its own, for as many threads as torch has now.

    Raises StudioError where it cannot run here.
    """
    return Loop(folder) if name == REFERENCE else Local(folder, name)


def peak_bytes(name: str, folder: Path, request: GenerationRequest, threads: int) -> int | None:
    """The most memory that a fresh process held which loaded a model and drew with it; None off Linux.

    Raises StudioError where it ended without an answer.
    """
    context = multiprocessing.get_context("spawn")
    ours, theirs = multiprocessing.Pipe()
    child = context.Process(target=_draw_once, args=(theirs, name, folder, request, threads), daemon=True)
    child.start()
    theirs.close()  # so that the end of the other process ends the waiting for it
    try:
        answer: int | None = ours.recv()
        return answer
    except EOFError:
        raise StudioError("the process ended before its picture was there; memory may have run out") from None
    finally:
        child.kill()
        child.join()


def _draw_once(
    connection: Connection, name: str, folder: Path, request: GenerationRequest, threads: int
) -> None:
    torch.set_num_threads(threads)
    open_contender(name, folder).draw(request, lambda part: None)
    connection.send(memory_bytes().get("memory_peak_bytes"))
