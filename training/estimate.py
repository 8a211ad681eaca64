"""What a training will take, from a few of its steps: parameters, memory, work, time and disk."""

import statistics
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, UntypedStorage, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.utils import flop_counter

from training.distributed import is_main, own_share, world_size
from training.loop import Trainer, positions

TIMED_STEPS = 3

formulas: Any = flop_counter  # has no types
# torch counts the fused attention of GPUs, and not that of processors.
CPU_ATTENTION = {
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: (
        lambda q, k, v, *_, **__: formulas.sdpa_flop_count(q, k, v)
    ),
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward: (
        lambda gradient, q, k, v, *_, **__: formulas.sdpa_backward_flop_count(gradient, q, k, v)
    ),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """What one batch takes: floating point operations (a multiplication and an addition are two), and bytes.

    `training_flops` has the forward pass in it; `activation_bytes` is what is kept for the backward pass.
    """

    forward_flops: int
    training_flops: int
    activation_bytes: int


def measure_work(objective: nn.Module, batch: tuple[Any, ...]) -> Work:
    """Count one forward and backward pass of `objective(*batch) -> (loss, metrics)`; leaves gradients."""
    parts = (*objective.parameters(), *objective.buffers())
    own = {own_share(tensor).untyped_storage().data_ptr() for tensor in parts}
    kept: dict[int, UntypedStorage] = {}

    def note(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage
        return tensor

    counter = flop_counter.FlopCounterMode(display=False, custom_mapping=CPU_ATTENTION)
    with counter:
        with saved_tensors_hooks(note, lambda tensor: tensor):
            loss, _ = objective(*batch)
        forward = counter.get_total_flops()
        # Asked for now: weights that were fetched for a block alone (FSDP2) are emptied again.
        activation_bytes = sum(storage.nbytes() for storage in kept.values())
        loss.backward()
    return Work(
        forward_flops=forward,
        training_flops=counter.get_total_flops(),
        activation_bytes=activation_bytes,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Phase:
    """What is measured of steps that take the same work."""

    work: Work
    batch_seconds: float
    step_seconds: float


def _measure_phase(trainer: Trainer, first: int, clock: Callable[[], float]) -> _Phase:
    """Measure the steps from `first` on."""
    stage, options = trainer.stage, trainer.config.training
    work = measure_work(
        trainer.objective, stage.batch(first, positions(options.batch_size, options.accumulate, 0))
    )
    trainer.optimizer.zero_grad(set_to_none=True)
    batch_seconds, step_seconds = [], []
    for step in range(first, first + TIMED_STEPS + 1):
        begin = clock()
        for micro_batch in range(options.accumulate):
            stage.batch(step, positions(options.batch_size, options.accumulate, micro_batch))
        prepared = clock()
        float(trainer.step(step)["loss"])  # waits for the device
        batch_seconds.append(prepared - begin)
        step_seconds.append(clock() - prepared)
    return _Phase(
        work=work,
        batch_seconds=statistics.median(batch_seconds[1:]),
        step_seconds=statistics.median(step_seconds[1:]),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """What a training will take in each process; `flops` are of one picture, `seconds` of the whole.

    Where its steps differ, flops and step_seconds are their mean; memory is that of the largest.
    """

    trained_parameters: int
    total_parameters: int
    memory_bytes: dict[str, int]
    forward_flops: float
    training_flops: float
    steps: int
    batch_size: int
    pictures: int
    step_seconds: float
    seconds: dict[str, float]
    disk_bytes: dict[str, int]
    device: str

    @property
    def total_seconds(self) -> float:
        """From the first step to the last file."""
        return sum(self.seconds.values())

    def __str__(self) -> str:
        passes = self.steps * self.batch_size / self.pictures
        duration = timedelta(seconds=round(self.total_seconds))
        parts = ", ".join(f"{name} {timedelta(seconds=round(s))}" for name, s in self.seconds.items() if s)
        return "\n".join((
            f"parameters  {self.trained_parameters:,} trained of {self.total_parameters:,}",
            f"memory      {_listed(self.memory_bytes)}, beside the program itself",
            f"work        {self.forward_flops / 1e9:.3g} GFLOP a picture forward, "
            f"{self.training_flops / 1e9:.3g} GFLOP in training",
            f"length      {self.steps:,} steps of {self.batch_size} pictures, {passes:.1f} passes over "
            f"{self.pictures:,}",
            f"time        about {duration} on this machine ({self.device}): {parts}; "
            f"{self.step_seconds:.3g} s a step",
            f"disk        {_listed(self.disk_bytes)}",
        ))  # fmt: skip


def estimate(trainer: Trainer, clock: Callable[[], float] = time.perf_counter) -> Estimate:
    """Measure a few steps of a training that is not begun, and draw its samples once; keeps no file.

    The trainer's weights are not what they were afterwards. `clock` gives seconds.
    """
    stage, options, checkpoints = trainer.stage, trainer.config.training, trainer.config.checkpoints
    firsts = [0, *(step for step in stage.turning_steps if 0 < step < options.steps)]
    phases = [_measure_phase(trainer, first, clock) for first in firsts]
    shares = [(end - first) / options.steps for first, end in pairwise([*firsts, options.steps])]

    def mean(amounts: Iterable[float]) -> float:
        """Of a step of the whole training, from those of each phase."""
        return sum(share * amount for share, amount in zip(shares, amounts, strict=True))

    batch = mean(phase.batch_seconds for phase in phases)
    step_time = mean(phase.step_seconds for phase in phases)

    begin = clock()
    if is_main():
        with tempfile.TemporaryDirectory() as folder:
            stage.sample(trainer.averaged, Path(folder), 0)
    sample_seconds = clock() - begin

    caching = 0.0
    if stage.cache_bytes:  # then a step looks up what it computed here
        step_time = max(step_time - batch, 0.0)
        caching = batch / options.batch_size * len(stage.pictures)
    trained = [parameter for parameter in stage.trained.parameters() if parameter.requires_grad]
    networks = [value for value in vars(stage).values() if isinstance(value, nn.Module)]
    every = {id(p): p for network in networks for p in (*network.parameters(), *network.buffers())}
    drawings = 1 + (options.steps - 1) // (options.sample_every_steps or options.steps)
    # Weights, averages and the optimiser's two moments, each whole whoever holds its parts.
    state_bytes = 4 * sum(p.numel() * p.element_size() for p in trained)
    rows = options.batch_size // (world_size() * options.accumulate)
    kept = 1 if checkpoints.keep == "all" else checkpoints.keep
    return Estimate(
        trained_parameters=sum(p.numel() for p in trained),
        total_parameters=sum(p.numel() for p in every.values() if isinstance(p, nn.Parameter)),
        memory_bytes={
            "weights": _bytes(every.values()),
            "gradients": _bytes(trained),
            "optimiser": 2 * _bytes(trained),
            # Kept, and placed in a module to draw with.
            "averages": _bytes(trainer.ema.weights.values()) + _bytes(trainer.averaged.parameters()),
            "activations": max(phase.work.activation_bytes for phase in phases),
        },
        forward_flops=mean(phase.work.forward_flops for phase in phases) / rows,
        training_flops=mean(phase.work.training_flops for phase in phases) / rows,
        steps=options.steps,
        batch_size=options.batch_size,
        pictures=len(stage.pictures),
        step_seconds=step_time,
        seconds={
            "caching": caching,
            "training": options.steps * step_time,
            "samples": drawings * sample_seconds,
        },
        disk_bytes={
            "each checkpoint" if checkpoints.keep == "all" else f"{kept} checkpoints": kept * state_bytes,
            "the model": sum(tensor.numel() for tensor in every.values()) * 2,  # in half precision
            "cache": stage.cache_bytes,
        },
        device=str(trainer.accelerator.device),
    )


def _bytes(tensors: Iterable[Tensor]) -> int:
    """What these take in this process."""
    shares = [own_share(tensor) for tensor in tensors]
    return sum(share.numel() * share.element_size() for share in shares)


def _listed(counts: dict[str, int]) -> str:
    """`1.3 GB: weights 1.1, activations 0.2`, in the unit of the whole."""
    total = sum(counts.values())
    unit, size = ("GB", 1e9) if total >= 1e9 else ("MB", 1e6)
    parts = ", ".join(f"{name} {count / size:.3g}" for name, count in counts.items() if count)
    return f"{total / size:.3g} {unit}: {parts}"
