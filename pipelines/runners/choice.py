"""Which engine draws a model faster on this processor: measured once, and kept beside the graphs."""

import json
import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from timeit import Timer
from typing import Any

import torch

from models.folder import load_model
from models.latent_diffusion import LatentDiffusionModel
from pipelines.files import write_whole
from pipelines.runners.folder import graph_folder
from pipelines.runners.graphs import import_openvino, ready_graphs
from pipelines.runners.on_openvino import OpenVINORunner
from pipelines.runners.on_torch import TorchRunner
from pipelines.timed_blocks import runs_of_a_block

CHOICE = "choice.json"
REPEATS = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """CPU seconds of one guided picture, as the model's defaults have it and without its words, by engine."""

    processor: str
    engine: str  # OpenVINO's name, with precision and version
    torch_seconds: float
    openvino_seconds: float

    @property
    def faster(self) -> str:
        """The engine that `auto` takes."""
        return "openvino" if self.openvino_seconds < self.torch_seconds else "torch"


def read_choice(model_id: str) -> Choice | None:
    """What was measured of a model on this processor; None where nothing was, or it cannot be read."""
    try:
        choice = Choice(**json.loads((graph_folder(model_id) / CHOICE).read_bytes()))
    except (OSError, ValueError, TypeError):
        return None
    return choice if choice.processor == processor() else None


def processor() -> str:
    """The processor's name, as OpenVINO has it."""
    name: str = import_openvino().Core().get_property("CPU", "FULL_DEVICE_NAME")
    return name


def prepare(folder: Path | str) -> None:
    """Convert and measure a model, and its student; for a process of its own, behind all others."""
    if hasattr(os, "nice"):
        os.nice(10)
    model = load_model(folder)
    for one in filter(None, (model, model.instant)):
        measure(one)


@torch.inference_mode()
def measure(model: LatentDiffusionModel) -> Choice:
    """Time both engines in turn, and keep what came out."""
    with torch.inference_mode(False):  # whose tensors cannot be traced
        fast = OpenVINORunner(model, ready_graphs(model))
    factor, defaults = model.autoencoder.downsampling_factor, model.defaults
    rows = 1 if defaults.guidance_scale in (0, 1) else 2
    side = (defaults.height // factor, defaults.width // factor)
    config: Any = model.denoiser.unet.config
    z = torch.randn(rows, config.in_channels, *side)
    latents = torch.randn(1, model.autoencoder.latent_channels, *side)
    t, states = torch.full((rows,), 500.0), model.text_encoder.encode([""] * rows)
    slow = TorchRunner(model.denoiser.unet)
    step = cpu_seconds({"torch": partial(slow, z, t, states), "openvino": partial(fast.unet, z, t, states)})
    decoding = cpu_seconds(
        {"torch": partial(model.autoencoder.decode, latents), "openvino": partial(fast.decode, latents)}
    )
    seconds = {name: defaults.steps * step[name] + decoding[name] for name in step}
    choice = Choice(
        processor=processor(),
        engine=fast.name,
        torch_seconds=round(seconds["torch"], 4),
        openvino_seconds=round(seconds["openvino"], 4),
    )
    write_whole(graph_folder(model.model_id) / CHOICE, json.dumps(asdict(choice)).encode())
    return choice


def cpu_seconds(works: dict[str, Callable[[], object]]) -> dict[str, float]:
    """The least CPU time of each, taken in turn, so that what else runs here disturbs all alike."""
    timers = {name: Timer(work, timer=time.process_time) for name, work in works.items()}
    runs = {name: runs_of_a_block(timer) for name, timer in timers.items()}
    least = dict.fromkeys(works, float("inf"))
    for _ in range(REPEATS):
        for name, timer in timers.items():
            least[name] = min(least[name], timer.timeit(runs[name]) / runs[name])
    return least
