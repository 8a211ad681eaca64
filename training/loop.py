"""The loop both stages share: optimise, average, log, sample, write checkpoints, resume exactly."""

import copy
import math
import signal
import time
from collections.abc import Mapping, Sized
from contextlib import nullcontext
from pathlib import Path
from typing import Any, Protocol

import torch
from accelerate import Accelerator
from safetensors import SafetensorError
from torch import Tensor, nn
from tqdm import tqdm

from models.errors import StudioError
from training.allocator import keep_freed_memory
from training.checkpoint import newest_step
from training.config import AnyConfig, Optimizer
from training.disk import is_full
from training.distributed import (
    is_main,
    largest,
    rank,
    share_out,
    unsynced,
    wait_for_all,
    whole,
    world_size,
)
from training.ema import Ema
from training.run import Run
from training.seeds import seed_for
from training.state import TrainingState
from training.stop import StopRequest
from training.trackers import start_tracker
from training.window import Window


class Stage(Protocol):
    """What a stage of training gives the loop."""

    @property
    def trained(self) -> nn.Module:
        """The module that is optimised, averaged and checkpointed, parameters and buffers."""

    @property
    def pictures(self) -> Sized:
        """What one epoch goes through."""

    @property
    def cache_bytes(self) -> int:
        """What is written once before the first step, so that a step looks up what else it would compute."""

    @property
    def turning_steps(self) -> tuple[int, ...]:
        """The steps (from 0) from which on each takes another amount of work."""

    @property
    def objective(self) -> nn.Module:
        """A module around `trained` whose forward(*batch) gives (loss, metrics), and draws nothing."""

    def parameter_groups(self) -> list[dict[str, Any]]:
        """What AdamW is given; a group may have its own settings."""

    def batch(self, step: int, positions: range) -> tuple[Any, ...]:
        """The rows `positions` of step `step` (from 0), each a function of seed, step and position."""

    def after_step(self, step: int) -> None:
        """Anything to be done to `trained` after the optimiser's step."""

    def sample(self, averaged: nn.Module, folder: Path, step: int) -> dict[str, float]:
        """Draw with the averaged weights into `folder`; measures worth logging."""

    def export(self, averaged: nn.Module, folder: Path) -> None:
        """Write the averaged weights as a model folder that the application loads."""


def learning_rate(optimizer: Optimizer, step: int, steps: int) -> float:
    """The rate of step `step` (from 0): linear warm-up, constant, cosine to zero over the last share."""
    warm = min(1.0, (step + 1) / max(optimizer.warmup_steps, 1))
    decay_steps = max(1, round(optimizer.decay_share * steps))
    into_decay = max(0, step - (steps - decay_steps)) / decay_steps
    return optimizer.learning_rate * warm * 0.5 * (1 + math.cos(math.pi * min(into_decay, 1.0)))


def positions(batch_size: int, accumulate: int, micro_batch: int) -> range:
    """The places in the global batch that this process sees in one of its micro-batches."""
    rows = batch_size // (world_size() * accumulate)
    first = (micro_batch * world_size() + rank()) * rows
    return range(first, first + rows)


def start(
    stage: Stage,
    config: AnyConfig,
    accelerator: Accelerator,
    folder: Path | None,
    dry_run: bool,
) -> None:
    """Train in the run that `folder` or the configuration names; a dry run prints what that would take."""
    if dry_run:
        from training.estimate import estimate  # which needs what is below

        expected = estimate(Trainer(stage, config, accelerator))
        if is_main():
            print(expected)
        return
    with Run.open(config, folder) as run:
        try:
            Trainer(stage, config, accelerator).train(run)
        except (OSError, SafetensorError) as error:
            if is_full(error):
                raise StudioError(
                    f"the disk of {run.folder} is full ({error}); make room and run the same command again, "
                    f"which goes on from step {newest_step(run.checkpoints)}"
                ) from error
            raise
        finally:
            for tracker in accelerator.trackers:
                tracker.finish()


class Trainer:
    """A stage of training with its optimiser and averages, in one process or in several."""

    def __init__(self, stage: Stage, config: AnyConfig, accelerator: Accelerator) -> None:
        self.stage, self.config, self.accelerator = stage, config, accelerator
        stage.objective.to(accelerator.device)
        self.averaged = copy.deepcopy(stage.trained).eval().requires_grad_(False)
        shared_out = config.training.sharding == "fsdp2" and world_size() > 1
        if shared_out:
            share_out(stage.objective, accelerator.device)
        rates = config.optimizer
        optimizer = torch.optim.AdamW(
            stage.parameter_groups(),
            betas=rates.betas,
            eps=rates.epsilon,
            weight_decay=rates.weight_decay,
            fused=True,
        )
        # DDP, which keeps whole copies alike, is left out by calling it evaluation.
        self.objective = accelerator.prepare_model(stage.objective, evaluation_mode=shared_out)
        self.optimizer = accelerator.prepare_optimizer(optimizer)
        self.ema = Ema(stage.trained, config.ema.power, config.ema.max_decay)
        self.state = TrainingState(stage.trained, optimizer, self.ema, accelerator)
        keep_freed_memory()

    def step(self, step: int) -> dict[str, Tensor]:
        """One step of the optimiser (from 0) on its global batch; the means of the metrics."""
        options = self.config.training
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(self.config.optimizer, step, options.steps)
        sums: dict[str, Tensor] = {}
        for micro_batch in range(options.accumulate):
            rows = positions(options.batch_size, options.accumulate, micro_batch)
            torch.manual_seed(seed_for(options.seed, step, f"dropout {rows.start}"))
            last = micro_batch == options.accumulate - 1
            with nullcontext() if last else unsynced(self.accelerator, self.objective):
                loss, metrics = self.objective(*self.stage.batch(step, rows))
                self.accelerator.backward(loss / options.accumulate)
            for name, value in {"loss": loss, **metrics}.items():
                share = value.detach() / options.accumulate
                sums[name] = sums[name] + share if name in sums else share
        self.accelerator.unscale_gradients()
        for group in self.optimizer.param_groups:
            norm = whole(nn.utils.clip_grad_norm_(group["params"], self.config.optimizer.clip_norm))
            sums.setdefault("gradient_norm", norm)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.stage.after_step(step)
        self.ema.update(self.stage.trained, step + 1)
        return sums

    def train(self, run: Run) -> None:
        """Train to the last step, from the newest whole checkpoint of a run where there is one.

        Raises: StudioError when a number is no longer finite; KeyboardInterrupt and SystemExit(143) on
        SIGINT and SIGTERM, after the step at hand and its checkpoint.
        """
        options, checkpoints = self.config.training, self.config.checkpoints
        first = self.state.load(run)
        start_tracker(self.accelerator, run.folder, self.config, first)
        if first == options.steps:  # ended between its last checkpoint and its model
            self.show(run, first, sampling=True, exporting=True)
        last_saved, window = time.monotonic(), Window(first)
        steps = range(first, options.steps)
        bar = tqdm(
            steps, initial=first, total=options.steps, unit="step", mininterval=5, disable=not is_main()
        )
        with StopRequest() as stop:
            for step in bar:
                window.add(self.step(step))
                done = step + 1
                # Whoever is stopped, stops all; the main process alone knows when a checkpoint is due.
                overdue = is_main() and time.monotonic() - last_saved > checkpoints.every_seconds
                signal_number, save = largest(stop.signal or 0, int(overdue))
                last = done == options.steps or signal_number > 0

                if last or _due(done, options.log_every_steps):
                    line = window.line(run, options.batch_size, len(self.stage.pictures))
                    self.log(run, done, {**line, "learning_rate": self.optimizer.param_groups[0]["lr"]})
                    bar.set_postfix(loss=f"{line['loss']:.4f}", samples_per_second=line["samples_per_second"])
                    window = Window(done)
                sampling = done == options.steps or _due(done, options.sample_every_steps)
                saving = last or save > 0 or _due(done, checkpoints.every_steps)
                with window.elsewhere():
                    if saving:
                        self.state.save(run, done, checkpoints)
                        last_saved = time.monotonic()
                    if sampling or saving:
                        self.show(run, done, sampling, saving)
                if signal_number and done < options.steps:
                    bar.close()
                    if is_main():
                        print(f"stopped after step {done}; the same command goes on from there")
                    raise KeyboardInterrupt if signal_number == signal.SIGINT else SystemExit(143)
        run.finish({"steps": options.steps, "samples": options.steps * options.batch_size})
        if is_main():
            print(f"done: {options.steps} steps, model in {run.model}")

    def show(self, run: Run, done: int, sampling: bool, exporting: bool) -> None:
        """Draw samples, or export the model, with the averaged weights; the others wait for the main one."""
        self.ema.copy_to(self.averaged)
        for target, source in zip(self.averaged.buffers(), self.stage.trained.buffers(), strict=True):
            target.copy_(source)
        if is_main():
            if sampling:
                self.log(run, done, self.stage.sample(self.averaged, run.samples, done))
            if exporting:
                self.stage.export(self.averaged, run.model)
        wait_for_all()

    def log(self, run: Run, done: int, values: Mapping[str, float]) -> None:
        """Write a line of numbers after `done` steps to metrics.jsonl, and to the tracker."""
        run.log({"step": done, **values})
        self.accelerator.log(dict(values), step=done)


def _due(done: int, every: int) -> bool:
    return every > 0 and done % every == 0
