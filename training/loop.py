"""The loop both stages share: optimise, average, log, sample, write checkpoints, resume exactly."""

import math
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from tqdm import tqdm

from training.config import AutoencoderConfig, DiffusionConfig, Optimizer
from training.ema import Ema
from training.run import Run
from training.seeds import seed_for
from training.state import TrainingState, diverged


class Stage(Protocol):
    """What a stage of training gives the loop."""

    @property
    def trained(self) -> nn.Module:
        """The module whose parameters are optimised, averaged and exported."""

    @property
    def objective(self) -> nn.Module:
        """A module around `trained` whose forward(*batch) gives (loss, metrics)."""

    def batch(self, step: int) -> tuple[Any, ...]:
        """The inputs of step `step` (from 0): a function of seed and step."""

    def sample(self, folder: Path, step: int) -> dict[str, float]:
        """Draw with the averaged weights into `folder`; measures worth logging."""

    def export(self, folder: Path) -> None:
        """Write the averaged weights as a model folder that the application loads."""


def learning_rate(optimizer: Optimizer, step: int, steps: int) -> float:
    """The rate of step `step` (from 0): linear warm-up, constant, cosine to zero over the last share."""
    warm = min(1.0, (step + 1) / max(optimizer.warmup_steps, 1))
    decay_steps = max(1, round(optimizer.decay_share * steps))
    into_decay = max(0, step - (steps - decay_steps)) / decay_steps
    return optimizer.learning_rate * warm * 0.5 * (1 + math.cos(math.pi * min(into_decay, 1.0)))


def start(
    stage: Stage, config: AutoencoderConfig | DiffusionConfig, folder: Path | None, dry_run: bool
) -> None:
    """Train in the run that `folder` or the configuration names; a dry run computes one loss."""
    if dry_run:
        stage.objective(*stage.batch(0))
        return
    with Run.open(config, folder) as run:
        train(stage, config, run)


def train(stage: Stage, config: AutoencoderConfig | DiffusionConfig, run: Run) -> None:
    """Train a stage to its last step, from its newest whole checkpoint where there is one.

    Raises: StudioError when its numbers are no longer finite; KeyboardInterrupt and SystemExit(143) on
    SIGINT and SIGTERM, after the step at hand and its checkpoint.
    """
    options, rates = config.training, config.optimizer
    accelerator = Accelerator(mixed_precision=options.precision)
    stage.objective.to(accelerator.device)
    optimizer = torch.optim.AdamW(
        stage.trained.parameters(), betas=rates.betas, weight_decay=rates.weight_decay, fused=True
    )
    ema = Ema(stage.trained, config.ema.power, config.ema.max_decay)
    objective, prepared = accelerator.prepare(stage.objective, optimizer)
    state = TrainingState(stage.trained, optimizer, ema, accelerator)
    first = saved = state.load(run)

    last_saved, window = time.monotonic(), _Window()
    bar = tqdm(range(first, options.steps), initial=first, total=options.steps, unit="step", mininterval=5)
    with _StopRequest() as stop:
        for step in bar:
            for group in prepared.param_groups:
                group["lr"] = learning_rate(rates, step, options.steps)
            torch.manual_seed(seed_for(options.seed, step, "dropout"))
            loss, metrics = objective(*stage.batch(step))
            accelerator.backward(loss)
            norm = accelerator.clip_grad_norm_(stage.trained.parameters(), rates.clip_norm)
            prepared.step()
            prepared.zero_grad(set_to_none=True)
            done = step + 1
            ema.update(stage.trained, done)
            window.add({"loss": loss.detach(), "gradient_norm": norm, **metrics})
            last = done == options.steps or stop.signal is not None

            if last or _due(done, options.log_every_steps):
                values = window.means()
                if not math.isfinite(values["loss"]):
                    raise diverged(run, done, "the loss")
                rate = window.count * options.batch_size / window.seconds
                samples = done * options.batch_size
                run.log({"step": done, "samples": samples, "samples_per_second": round(rate, 2), **values})
                bar.set_postfix(loss=f"{values['loss']:.4f}", samples_per_second=f"{rate:.1f}")
                window = _Window()
            if done == options.steps or _due(done, options.sample_every_steps):
                with averaged(stage.trained, ema):
                    run.log({"step": done, **stage.sample(run.samples, done)})
                window = _Window()
            overdue = time.monotonic() - last_saved > config.checkpoints.every_seconds
            if last or overdue or _due(done, config.checkpoints.every_steps):
                state.save(run, done, config.checkpoints)
                with averaged(stage.trained, ema):
                    stage.export(run.model)
                saved, last_saved = done, time.monotonic()
            if stop.signal is not None and done < options.steps:
                print(f"stopped after step {saved}; the same command goes on from there")
                raise KeyboardInterrupt if stop.signal == signal.SIGINT else SystemExit(143)
    run.finish({"steps": options.steps, "samples": options.steps * options.batch_size})
    print(f"done: {options.steps} steps, model in {run.model}")


def _due(done: int, every: int) -> bool:
    return every > 0 and done % every == 0


@contextmanager
def averaged(module: nn.Module, ema: Ema) -> Iterator[None]:
    """Within it the module holds the averaged weights and is in evaluation mode."""
    kept = {name: p.detach().clone() for name, p in module.named_parameters()}
    training = module.training
    ema.copy_to(module)
    module.eval()
    try:
        yield
    finally:
        module.train(training)
        with torch.no_grad():
            for name, parameter in module.named_parameters():
                parameter.copy_(kept[name])


class _Window:
    """Sums of the metrics since the last line of the log; one transfer from the device a line."""

    def __init__(self) -> None:
        self.sums: dict[str, Tensor] = {}
        self.count = 0
        self.start = time.monotonic()

    @property
    def seconds(self) -> float:
        return max(time.monotonic() - self.start, 1e-9)

    def add(self, metrics: dict[str, Tensor]) -> None:
        self.count += 1
        for name, value in metrics.items():
            self.sums[name] = self.sums.get(name, torch.zeros_like(value)) + value.detach()

    def means(self) -> dict[str, float]:
        return {name: float(total) / self.count for name, total in self.sums.items()}


class _StopRequest:
    """Notes SIGINT and SIGTERM, so that a step is never cut in half; a second one ends at once."""

    def __enter__(self) -> "_StopRequest":
        self.signal: int | None = None
        self.previous = {one: signal.signal(one, self._note) for one in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, *_: object) -> None:
        for one, handler in self.previous.items():
            signal.signal(one, handler)

    def _note(self, number: int, _frame: Any) -> None:
        if self.signal is not None:
            raise SystemExit(128 + number)
        self.signal = number
