"""What a training is at a step: weights, averages, optimiser. Saved whole, or refused."""

from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from models.errors import StudioError
from training.checkpoint import (
    is_whole,
    load_checkpoint,
    newest_step,
    prune,
    save_checkpoint,
    set_aside_after,
)
from training.config import Checkpoints
from training.distributed import from_main, is_main, like, wait_for_all, whole
from training.ema import Ema
from training.run import Run

MOMENTS = ("exp_avg", "exp_avg_sq", "step")  # AdamW's state of one parameter


class TrainingState:
    """The trained module with its averages and optimiser, as one thing on disk.

    A file holds whole tensors by name, however many processes share them, so a run goes on with any
    number of processes.
    """

    def __init__(
        self, module: nn.Module, optimizer: torch.optim.Optimizer, ema: Ema, accelerator: Accelerator
    ) -> None:
        self.module, self.optimizer, self.ema, self.accelerator = module, optimizer, ema, accelerator

    def save(self, run: Run, step: int, options: Checkpoints) -> None:
        """Write the state after `step` whole steps, then drop the oldest; every process takes part.

        Raises: StudioError, with nothing written or dropped, where a number is not finite.
        """
        named = dict(self.module.named_parameters())
        state: dict[str, Any] = {
            name: self.optimizer.state[p] for name, p in named.items() if p.requires_grad
        }
        tensors = {"weights": _whole(self.module.state_dict()), "ema": _whole(self.ema.weights)}
        for key in MOMENTS:
            # A parameter that never got a gradient has no moments yet.
            tensors[f"optimizer-{key}"] = _whole({name: one[key] for name, one in state.items() if one})
        for name, tensor in tensors["weights"].items():
            if not torch.isfinite(tensor).all():
                raise diverged(run, step, name)
        scalars: dict[str, Any] = {}
        if self.accelerator.scaler is not None:
            scalars["loss_scaler"] = self.accelerator.scaler.state_dict()
        if is_main():
            save_checkpoint(run.checkpoints, step, tensors, scalars)
            prune(run.checkpoints, options.keep)
        wait_for_all()

    def load(self, run: Run) -> int:
        """Go back to the newest whole checkpoint of a run; how many steps it has done, 0 without one.

        The main process says which it is. Raises: StudioError where another does not see the same.
        """
        wait_for_all()
        step = from_main(newest_step(run.checkpoints) if is_main() else 0)
        if step:
            checkpoint = run.checkpoints / f"step-{step}"
            if not is_main() and not is_whole(checkpoint):
                raise StudioError(
                    f"this process does not see {checkpoint} as the main one does; all need the same disk"
                )
            self._restore(*load_checkpoint(checkpoint))
        wait_for_all()  # nobody may still be reading what is now set aside
        if is_main():
            set_aside_after(run.checkpoints, step)
            run.rewind_log(step)
            if step:
                print(f"resumed from step {step}")
        return step

    def _restore(self, tensors: dict[str, dict[str, Tensor]], scalars: dict[str, Any]) -> None:
        state = self.module.state_dict()
        weights = {name: like(tensor, state[name]) for name, tensor in tensors["weights"].items()}
        self.module.load_state_dict(weights, strict=True)
        averages = self.ema.weights
        self.ema.weights = {name: like(tensors["ema"][name], averages[name]) for name in averages}
        # AdamW numbers its state by position; names on disk survive a change of order.
        for name, parameter in self.module.named_parameters():
            if name in tensors["optimizer-step"]:
                moments = {key: like(tensors[f"optimizer-{key}"][name], parameter) for key in MOMENTS[:2]}
                moments["step"] = tensors["optimizer-step"][name].to(parameter.device)
                self.optimizer.state[parameter] = moments
        if self.accelerator.scaler is not None and "loss_scaler" in scalars:
            self.accelerator.scaler.load_state_dict(scalars["loss_scaler"])


def diverged(run: Run, step: int, what: str) -> StudioError:
    """The error of a training whose numbers are no longer finite."""
    last_good = newest_step(run.checkpoints)
    advice = "there is no checkpoint yet: begin anew, in another --run,"
    if last_good:
        advice = f"the last good checkpoint is of step {last_good}: go on from --set init.model={run.model}"
    return StudioError(
        f"the training diverged: {what} is not finite at step {step}, and nothing of it was saved; {advice} "
        "with a lower optimizer.learning_rate"
    )


def _whole(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: whole(tensor) for name, tensor in tensors.items()}
