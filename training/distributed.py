"""The processes of one training: who this one is, and what all of them agree on."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeVar

import torch
import torch.distributed as dist
from accelerate import Accelerator
from diffusers.models.resnet import ResnetBlock2D
from diffusers.models.transformers.transformer_2d import Transformer2DModel
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

from models.errors import ConfigError
from training.config import Training
from training.trackers import check_tracker

T = TypeVar("T")


def connect(options: Training) -> Accelerator:
    """Join the processes that RANK and WORLD_SIZE in the environment name; one process without them.

    Raises: ConfigError where the batch cannot be shared equally, the tracker is not installed, or the
    precision is one that this machine has not.
    """
    check_tracker(options.tracker)
    if int(os.environ.get("WORLD_SIZE", "1")) > 1 and "LOCAL_RANK" not in os.environ:
        # Without it accelerate takes each process on a GPU for the only one.
        number = int(os.environ.get("RANK", "0"))
        os.environ["LOCAL_RANK"] = str(number % max(1, torch.cuda.device_count()))
    if options.precision == "fp16" and not torch.cuda.is_available():
        raise ConfigError("training.precision is fp16, which needs an NVIDIA GPU; set it to bf16 or no")
    accelerator = Accelerator(
        mixed_precision=options.precision,
        cpu=not (torch.cuda.is_available() or torch.backends.mps.is_available()),
    )
    share = accelerator.num_processes * options.accumulate
    if options.batch_size % share:
        raise ConfigError(
            f"training.batch_size is {options.batch_size}; {accelerator.num_processes} processes with "
            f"training.accumulate = {options.accumulate} share multiples of {share}"
        )
    return accelerator


def share_out(module: nn.Module, device: torch.device) -> None:
    """Leave each process its share of a module's parameters (FSDP2); the others come where they are used.

    By torch and not by accelerate, which shares nothing out on CPUs and rounds times and targets to bf16.
    """
    mesh = init_device_mesh(device.type, (world_size(),))
    policy = MixedPrecisionPolicy(cast_forward_inputs=False)  # autocast alone rounds, as without sharding
    blocks = [part for part in module.modules() if isinstance(part, ResnetBlock2D | Transformer2DModel)]
    for part in (*blocks, module):  # the whole of one block at a time is in memory
        fully_shard(part, mesh=mesh, mp_policy=policy)


@contextmanager
def unsynced(accelerator: Accelerator, objective: nn.Module) -> Iterator[None]:
    """Keep the gradients of what is computed within to this process, until a later one is synced."""
    if isinstance(objective, FSDPModule):
        objective.set_requires_gradient_sync(False)
        yield
        objective.set_requires_gradient_sync(True)
    else:
        with accelerator.no_sync(objective):
            yield


def world_size() -> int:
    """How many processes train together."""
    return dist.get_world_size() if dist.is_initialized() else 1


def rank() -> int:
    """Which of them this is, from 0."""
    return dist.get_rank() if dist.is_initialized() else 0


def is_main() -> bool:
    """Whether this is the process that writes files."""
    return rank() == 0


def wait_for_all() -> None:
    """Return when every process has come here."""
    if dist.is_initialized():
        dist.barrier()


def mean_over_ranks(tensor: Tensor) -> Tensor:
    """The mean of every process's tensor of one shape, without gradient."""
    if world_size() == 1:
        return tensor.detach()
    total = tensor.detach().clone()
    dist.all_reduce(total)
    return total / world_size()


def largest(*numbers: int) -> list[int]:
    """Of each number the largest that any process has, so that all of them decide alike."""
    if world_size() == 1:
        return list(numbers)
    device = torch.device("cuda", torch.cuda.current_device()) if dist.get_backend() == "nccl" else None
    column = torch.tensor(numbers, device=device)
    dist.all_reduce(column, dist.ReduceOp.MAX)
    return [int(number) for number in column]


def gather_rows(tensor: Tensor) -> Tensor:
    """The rows (n, ...) of every process, (world n, ...), in the order of the global batch; no gradient."""
    if world_size() == 1:
        return tensor.detach()
    parts = [torch.empty_like(tensor) for _ in range(world_size())]
    dist.all_gather(parts, tensor.detach().contiguous())
    return torch.cat(parts)


def from_main(value: T) -> T:
    """The main process's value, in every process."""
    if world_size() == 1:
        return value
    box = [value]
    dist.broadcast_object_list(box)
    return box[0]


def whole(tensor: Tensor) -> Tensor:
    """A tensor with the parts of it that lie with other processes; all of them must ask."""
    if isinstance(tensor, DTensor):
        full: Tensor = tensor.full_tensor()
        return full
    return tensor


def own_share(tensor: Tensor) -> Tensor:
    """The part of a tensor that lies with this process."""
    if isinstance(tensor, DTensor):
        local: Tensor = tensor.to_local()
        return local
    return tensor


def like(tensor: Tensor, reference: Tensor) -> Tensor:
    """A whole tensor cut and placed as `reference` is."""
    tensor = tensor.to(reference.device)
    if isinstance(reference, DTensor):
        return distribute_tensor(tensor, reference.device_mesh, reference.placements)
    return tensor
