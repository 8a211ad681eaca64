"""What a training is at a step: weights, averages, optimiser. Saved whole, or refused."""

from typing import Any

import torch
from accelerate import Accelerator
from torch import nn

from models.errors import StudioError
from training.checkpoint import load_checkpoint, prune, save_checkpoint, set_aside_after
from training.config import Checkpoints
from training.ema import Ema
from training.run import Run

MOMENTS = ("exp_avg", "exp_avg_sq", "step")  # AdamW's state of one parameter


class TrainingState:
    """The trained module with its averages and optimiser, as one thing on disk."""

    def __init__(
        self, module: nn.Module, optimizer: torch.optim.Optimizer, ema: Ema, accelerator: Accelerator
    ) -> None:
        self.module, self.optimizer, self.ema, self.accelerator = module, optimizer, ema, accelerator

    def save(self, run: Run, step: int, options: Checkpoints) -> None:
        """Write the state after `step` whole steps, then drop the oldest.

        Raises: StudioError, with nothing written or dropped, where a number is not finite.
        """
        named = dict(self.module.named_parameters())
        state: dict[str, Any] = {name: self.optimizer.state[parameter] for name, parameter in named.items()}
        for name, parameter in named.items():
            if not torch.isfinite(parameter).all():
                raise diverged(run, step, name)
        tensors = {"weights": dict(self.module.state_dict()), "ema": self.ema.weights}
        for key in MOMENTS:
            # A parameter that never got a gradient has no moments yet.
            tensors[f"optimizer-{key}"] = {name: one[key] for name, one in state.items() if one}
        scalars: dict[str, Any] = {}
        if self.accelerator.scaler is not None:
            scalars["loss_scaler"] = self.accelerator.scaler.state_dict()
        save_checkpoint(run.checkpoints, step, tensors, scalars)
        prune(run.checkpoints, options.keep)

    def load(self, run: Run) -> int:
        """Go back to the newest whole checkpoint of a run; how many steps it has done, 0 without one."""
        found = load_checkpoint(run.checkpoints)
        if found is None:
            run.rewind_log(0)
            return 0
        tensors, scalars = found
        step: int = scalars["step"]
        device = next(self.module.parameters()).device
        self.module.load_state_dict(tensors["weights"], strict=True)
        self.ema.weights = {name: tensors["ema"][name].to(device) for name in self.ema.weights}
        # AdamW numbers its state by position; names on disk survive a change of order.
        for name, parameter in self.module.named_parameters():
            if name in tensors["optimizer-step"]:
                moments = {key: tensors[f"optimizer-{key}"][name].to(device) for key in MOMENTS}
                self.optimizer.state[parameter] = moments
        if self.accelerator.scaler is not None and "loss_scaler" in scalars:
            self.accelerator.scaler.load_state_dict(scalars["loss_scaler"])
        set_aside_after(run.checkpoints, step)
        run.rewind_log(step)
        print(f"resumed from step {step}")
        return step


def diverged(run: Run, step: int, what: str) -> StudioError:
    """The error of a training whose numbers are no longer finite."""
    return StudioError(
        f"the training diverged: {what} is not finite at step {step}, and nothing of it was saved; go on "
        f"from the last good model: --set init.model={run.model} with a lower optimizer.learning_rate"
    )
