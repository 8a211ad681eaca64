"""How many images a second each arm of an experiment trains on, draws and encodes, by turns on one thread.

What an arm may train on is counted in images, its speed times a budget in seconds: so a training does not
depend on what else the machine does meanwhile, and a resumed one is the same. Untrained networks will do.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from evaluation.arms import Arm, Experiment
from evaluation.drawing import draw_batch
from evaluation.intervals import Measured, median
from evaluation.timing import by_turns
from models.defaults import GenerationDefaults
from models.latent_diffusion import LatentDiffusionModel
from models.text_encoder import TextEncoder, TextStates
from models.unet import build_unet
from models.weights import read_json
from models.writing import write_json
from training.autoencoder import AutoencoderStage
from training.data.pictures import Pictures, load_pictures
from training.distributed import connect
from training.loop import Trainer
from training.objectives import Objective, build_objective

FILE = "throughput.json"


class Ready:
    """Stage 2 for the training loop, whose batch is there already: the time is that of the step alone."""

    cache_bytes = 0
    turning_steps: tuple[int, ...] = ()
    pictures = ()

    def __init__(self, objective: Objective, batch: tuple[Any, ...]) -> None:
        self.objective, self.trained, self.ready = objective, objective.unet, batch

    def parameter_groups(self) -> list[dict[str, Any]]:
        """One group of everything."""
        return [{"params": list(self.trained.parameters())}]

    def batch(self, _step: int, _positions: range) -> tuple[Any, ...]:
        """The same one."""
        return self.ready

    def after_step(self, _step: int) -> None:
        """Nothing."""

    def sample(self, _averaged: nn.Module, _folder: Path, _step: int) -> dict[str, float]:
        """Nothing."""
        return {}

    def export(self, _averaged: nn.Module, _folder: Path) -> None:
        """Nothing."""


@dataclass(frozen=True, slots=True)
class Throughput:
    """Images a second of one arm; `stage1` and `encode` are 0 for pixels, which have no such work."""

    train: Measured
    sample: Measured
    train_ratio: Measured  # to pixels, of turns taken together
    sample_ratio: Measured
    stage1: float
    encode: float

    def stage1_cost(self, arm: Arm, pictures: int, stage1_seconds: int) -> float:
        """Seconds that stage 1 takes: its training, and every picture encoded once."""
        return 0.0 if arm.regularizer is None else stage1_seconds + pictures / self.encode


def throughputs(experiment: Experiment, rounds: int) -> dict[str, Throughput]:
    """Speeds of every arm, measured once and kept with the experiment's runs."""
    file = experiment.folder / FILE
    if not file.exists():
        measured = _measure(experiment, rounds)
        write_json(file, {"seconds_a_batch": {name: times.tolist() for name, times in measured.items()}})
    kept = read_json(file)["seconds_a_batch"]
    taken = {name: torch.tensor(times, dtype=torch.float64) for name, times in kept.items()}
    size, result = experiment.batch_size, {}
    pixels = next(arm.name for arm in experiment.arms if arm.regularizer is None)

    def typical(name: str) -> float:
        return size / median(taken[name]).value if name in taken else 0.0

    for arm in experiment.arms:
        train, sample = taken[f"{arm.name} train"], taken[f"{arm.name} sample"]
        result[arm.name] = Throughput(
            train=median(size / train),
            sample=median(size / sample),
            train_ratio=median(taken[f"{pixels} train"] / train),
            sample_ratio=median(taken[f"{pixels} sample"] / sample),
            stage1=typical(f"{arm.name} stage1"),
            encode=typical(f"{arm.name} encode"),
        )
    return result


def _measure(experiment: Experiment, rounds: int) -> dict[str, Tensor]:
    """Seconds of a batch of each kind of work of each arm."""
    pictures, _, _ = load_pictures(experiment.pictures)
    encoder = TextEncoder.from_folder(experiment.text_encoder)
    first = [number % len(pictures) for number in range(experiment.batch_size)]
    captions = [pictures.index.caption(pictures.caption_numbers(number)[0]) for number in first]
    states = encoder.encode(captions)  # (B, T, D)
    calls: dict[str, Callable[[int], object]] = {}
    for arm in experiment.arms:
        calls |= {
            f"{arm.name} {kind}": call for kind, call in _work(experiment, arm, pictures, encoder, states)
        }
    return by_turns(calls, rounds, "timing")


def _work(
    experiment: Experiment, arm: Arm, pictures: Pictures, encoder: TextEncoder, states: TextStates
) -> list[tuple[str, Callable[[int], object]]]:
    """The kinds of work of an arm, each of one batch."""
    config = experiment.diffusion_config(arm, "", 1e-4, steps=1000)
    accelerator = connect(config.training)
    device, batch = accelerator.device, range(experiment.batch_size)
    autoencoder = experiment.untrained(arm).eval().requires_grad_(False).to(device)
    pixels = pictures.batch([number % len(pictures) for number in batch]).to(device)  # (B, 3, H, W)
    states = states.to(device)

    unet = build_unet(config.model.preset, autoencoder.latent_channels, encoder.dim)
    objective = build_objective(unet, config.model)
    with torch.no_grad():
        latents = autoencoder.encode(pixels)  # (B, C, h, w)
    timestep = torch.linspace(1, 999, len(batch), device=device)  # (B,)
    ready = Ready(objective, (latents, torch.randn_like(latents), timestep, states, None))
    trainer = Trainer(ready, config, accelerator)
    side = experiment.resolution
    model = LatentDiffusionModel(
        name=arm.name,
        path=Path(),
        model_id="untrained",
        autoencoder=autoencoder,
        denoiser=objective.denoiser(unet),
        text_encoder=encoder.to(device),
        defaults=GenerationDefaults(width=side, height=side),
        preview=None,
    )
    request = experiment.request("", 0)
    work: list[tuple[str, Callable[[int], object]]] = [
        ("train", trainer.step),
        ("sample", lambda _: draw_batch(model, request, states, batch)),
    ]
    if arm.regularizer is not None:
        stage1 = experiment.autoencoder_config(arm, steps=1000)
        stage = AutoencoderStage(stage1)
        work.append(("stage1", Trainer(stage, stage.config, accelerator).step))
        work.append(("encode", lambda _: autoencoder.encode(pixels)))
    return work


def steps_of(images_per_second: float, seconds: float, batch_size: int) -> int:
    """How many steps a budget in seconds is."""
    return max(1, math.floor(images_per_second * seconds / batch_size))
