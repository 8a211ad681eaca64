"""How near a network comes to the speed at which this machine multiplies matrices."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from timeit import Timer
from typing import Any

import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile
from torch.utils._python_dispatch import TorchDispatchMode

from pipelines.timed_blocks import runs_of_a_block

Size = tuple[int, int, int, int]  # products of (m, k) and (k, n) matrices, and how many at a time
aten = torch.ops.aten
ATTENTION = (
    aten._scaled_dot_product_flash_attention_for_cpu,
    aten._scaled_dot_product_flash_attention,
    aten._scaled_dot_product_efficient_attention,
)
BLOCKS = 3  # of each size
LARGEST_NUMBERS = 2**24  # of a measured product; a larger one is as fast, and its matrices need gigabytes
# What the names of torch's operators have in them, the first that fits.
KINDS = {
    "attention": ("attention",),
    "matrix products": ("conv", "mm", "linear"),
    "normalisation": ("norm",),
    "the rest": ("",),
}


class MatrixProducts(TorchDispatchMode):
    """Within this context counts the matrix products of what is called, a convolution being one too.

    For use under no_grad: in inference mode torch shows its operators before they are taken apart.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.sizes: Counter[Size] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        output = func(*args, **(kwargs or {}))
        operator = func.overloadpacket
        if operator is aten.convolution:
            weight = args[1]  # (C_out, C_in, kh, kw)
            rows = output.numel() // len(weight)
            self.sizes[1, rows, weight[0].numel(), len(weight)] += 1
        elif operator in (aten.mm, aten.addmm, aten.bmm, aten.baddbmm):
            first, second = args[-2:]
            batch = len(first) if first.ndim == 3 else 1
            self.sizes[batch, first.shape[-2], first.shape[-1], second.shape[-1]] += 1
        elif operator in ATTENTION:
            (*batch, queries, width), keys, depth = args[0].shape, args[1].shape[-2], args[2].shape[-1]
            heads = torch.Size(batch).numel()
            self.sizes[heads, queries, width, keys] += 1
            self.sizes[heads, queries, keys, depth] += 1
        return output


@dataclass(frozen=True, slots=True)
class Limit:
    """Floating point operations of a call, and how many a second its matrix products alone reach.

    `fastest` is the speed of the fastest of them.
    """

    flops: int
    flops_per_second: float
    fastest: float


def matrix_products(call: Callable[[], object]) -> Counter[Size]:
    """How often the call multiplies matrices of each size."""
    products = MatrixProducts()
    with torch.no_grad(), products:
        call()
    return products.sizes


def flops_of(sizes: Counter[Size]) -> int:
    """Floating point operations of products: a multiplication and an addition for each triple of indices."""
    return sum(2 * batch * m * k * n * count for (batch, m, k, n), count in sizes.items())


def limit_of(sizes: Counter[Size], clock: Callable[[], float]) -> Limit:
    """How fast these products are as float32 matrices that lie there ready, on torch's own `matmul`."""
    total, fastest = 0.0, 0.0
    for size, count in sizes.items():
        seconds = product_seconds(size, clock)
        total += seconds * count
        fastest = max(fastest, flops_of(Counter({size: 1})) / seconds)
    return Limit(flops_of(sizes), flops_of(sizes) / total, fastest)


def product_seconds(size: Size, clock: Callable[[], float]) -> float:
    """One product in the fastest of some blocks of runs; of a large one a part, for as much as that is."""
    batch, m, k, n = size
    rows = max(1, min(m, LARGEST_NUMBERS // max(k, n)))
    some = max(1, min(batch, LARGEST_NUMBERS // (rows * max(k, n))))
    first, second = torch.randn(some, rows, k), torch.randn(some, k, n)
    if some == 1:
        first, second = first[0], second[0]
    output: Tensor = first @ second
    timer = Timer(lambda: torch.matmul(first, second, out=output), timer=clock)
    runs = runs_of_a_block(timer)
    fastest = min(timer.repeat(BLOCKS, runs)) / runs
    return fastest * (m / rows) * (batch / some)


def operators(call: Callable[[], object]) -> list[tuple[str, str, float]]:
    """Name, kind (of KINDS) and seconds of every operator in a call, the dearest first."""
    with profile(activities=[ProfilerActivity.CPU]) as profiler:
        call()
    rows = [(event.key, event.self_cpu_time_total / 1e6) for event in profiler.key_averages()]
    kinds = [
        next(kind for kind, words in KINDS.items() if any(word in name for word in words)) for name, _ in rows
    ]
    return sorted(
        ((name, kind, seconds) for (name, seconds), kind in zip(rows, kinds, strict=True)),
        key=lambda row: -row[2],
    )
