"""The loop both stages share: optimise, average, log, sample, write checkpoints, resume exactly."""

import math
import signal
import time
from pathlib import Path
from typing import Any, Protocol

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from tqdm import tqdm

from models.errors import StudioError
from training.checkpoint import load_checkpoint, prune, save_checkpoint
from training.config import AutoencoderConfig, DiffusionConfig, Optimizer
from training.ema import Ema
from training.run import Run


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


def train(stage: Stage, config: AutoencoderConfig | DiffusionConfig, run: Run) -> None:
    """Train a stage to its last step, from its newest whole checkpoint where there is one.

    Raises: StudioError when the loss is no longer a number; KeyboardInterrupt and SystemExit(143) after
    writing a checkpoint.
    """
    options, rates = config.training, config.optimizer
    accelerator = Accelerator(mixed_precision=options.precision)
    stage.objective.to(accelerator.device)
    optimizer = torch.optim.AdamW(
        stage.trained.parameters(), betas=rates.betas, weight_decay=rates.weight_decay, fused=True
    )
    ema = Ema(stage.trained, config.ema.power, config.ema.max_decay)
    first = _resume(run, stage.trained, optimizer, ema)
    objective, optimizer = accelerator.prepare(stage.objective, optimizer)

    last_saved, window, window_start = time.monotonic(), _Window(), time.monotonic()
    bar = tqdm(range(first, options.steps), initial=first, total=options.steps, unit="step", mininterval=5)
    with _StopRequest() as stop:
        for step in bar:
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(rates, step, options.steps)
            loss, metrics = objective(*stage.batch(step))
            accelerator.backward(loss)
            norm = accelerator.clip_grad_norm_(stage.trained.parameters(), rates.clip_norm)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            done = step + 1
            ema.update(stage.trained, done)
            window.add({"loss": loss.detach(), "gradient_norm": norm, **metrics})

            if done % options.log_every_steps == 0 or done == options.steps:
                values = window.means()
                if not math.isfinite(values["loss"]):
                    raise StudioError(
                        f"the loss is {values['loss']} at step {done}; the last checkpoint is good: "
                        "lower optimizer.learning_rate and begin again from it with init.model"
                    )
                rate = values.pop("count") * options.batch_size / (time.monotonic() - window_start)
                samples = done * options.batch_size
                run.log({"step": done, "samples": samples, "samples_per_second": round(rate, 2), **values})
                bar.set_postfix(loss=f"{values['loss']:.4f}", samples_per_second=f"{rate:.1f}")
                window, window_start = _Window(), time.monotonic()
            if done % options.sample_every_steps == 0 or done == options.steps:
                measured = _with_averages(stage, ema, lambda done=done: stage.sample(run.samples, done))
                run.log({"step": done, **measured})
                window, window_start = _Window(), time.monotonic()
            due = config.checkpoints.every_steps and done % config.checkpoints.every_steps == 0
            overdue = time.monotonic() - last_saved > config.checkpoints.every_seconds
            if due or overdue or stop.signal is not None:
                _save(run, config, stage, optimizer, ema, done)
                last_saved = time.monotonic()
            if stop.signal is not None:
                print(f"stopped after step {done}; the same command goes on from there")
                raise KeyboardInterrupt if stop.signal == signal.SIGINT else SystemExit(143)
    _save(run, config, stage, optimizer, ema, options.steps)
    run.finish({"steps": options.steps, "samples": options.steps * options.batch_size})
    print(f"done: {options.steps} steps, model in {run.model}")


class _Window:
    """Sums of the metrics since the last line of the log; one transfer from the device a line."""

    def __init__(self) -> None:
        self.sums: dict[str, Tensor] = {}
        self.count = 0

    def add(self, metrics: dict[str, Tensor]) -> None:
        self.count += 1
        for name, value in metrics.items():
            self.sums[name] = self.sums.get(name, torch.zeros_like(value)) + value.detach()

    def means(self) -> dict[str, float]:
        return {name: float(total) / self.count for name, total in self.sums.items()} | {"count": self.count}


def _resume(run: Run, module: nn.Module, optimizer: torch.optim.Optimizer, ema: Ema) -> int:
    found = load_checkpoint(run.checkpoints)
    if found is None:
        return 0
    tensors, scalars = found
    device = next(module.parameters()).device
    module.load_state_dict(tensors["weights"], strict=True)
    ema.weights = {name: tensors["ema"][name].to(device) for name in ema.weights}
    # AdamW numbers its state by position; names on disk survive a change of order.
    for name, parameter in module.named_parameters():
        state = {key: tensors[f"optimizer-{key}"][name] for key in ("exp_avg", "exp_avg_sq", "step")}
        optimizer.state[parameter] = {key: tensor.to(device) for key, tensor in state.items()}
    step: int = scalars["step"]
    run.rewind_log(step)
    print(f"resumed from step {step}")
    return step


def _save(
    run: Run,
    config: AutoencoderConfig | DiffusionConfig,
    stage: Stage,
    optimizer: torch.optim.Optimizer,
    ema: Ema,
    step: int,
) -> None:
    named = dict(stage.trained.named_parameters())
    state = {name: optimizer.state[parameter] for name, parameter in named.items()}
    if not all(state.values()):
        return  # not one step is done
    tensors = {"weights": dict(stage.trained.state_dict()), "ema": ema.weights}
    for key in ("exp_avg", "exp_avg_sq", "step"):
        tensors[f"optimizer-{key}"] = {name: one[key] for name, one in state.items()}
    save_checkpoint(run.checkpoints, step, tensors, {"samples": step * config.training.batch_size})
    prune(run.checkpoints, config.checkpoints.keep)
    _with_averages(stage, ema, lambda: stage.export(run.model))


def _with_averages(stage: Stage, ema: Ema, action: Any) -> Any:
    """Do something while the trained module holds the averaged weights."""
    kept = {name: p.detach().clone() for name, p in stage.trained.named_parameters()}
    training = stage.trained.training
    ema.copy_to(stage.trained)
    stage.trained.eval()
    try:
        return action()
    finally:
        stage.trained.train(training)
        with torch.no_grad():
            for name, parameter in stage.trained.named_parameters():
                parameter.copy_(kept[name])


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
