"""How long calls take, fairly: several of them by turns, on one thread, in processor time."""

import platform
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from timeit import Timer
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from pipelines.timed_blocks import runs_of_a_block
from training.run import environment


def seconds(call: Callable[..., object], *arguments: Any) -> float:
    """What one call takes: processor time of this process, or, where a GPU is in use, time on the wall."""
    return _timer(call, *arguments).timeit(1)


def _timer(call: Callable[..., object], *arguments: Any) -> Timer:
    def to_its_end() -> None:
        call(*arguments)
        torch.cuda.synchronize()

    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        return Timer(to_its_end, timer=time.perf_counter)
    return Timer(partial(call, *arguments), timer=time.process_time)


def by_turns(calls: Mapping[str, Callable[[int], object]], rounds: int, what: str) -> dict[str, Tensor]:
    """Seconds of each call in each of `rounds` rounds, (rounds,) float64, after a round that is not counted.

    A call is given the number of its round, several times in it where it is soon over. Whatever else the
    machine does slows all of them alike.
    """
    taken: dict[str, list[float]] = {name: [] for name in calls}
    runs: dict[str, int] = {}
    with tqdm(total=(rounds + 1) * len(calls), desc=what, unit="call", leave=False) as bar:
        for number in range(rounds + 1):
            for name, call in calls.items():
                timer = _timer(call, number)
                if number == 0:
                    runs[name] = runs_of_a_block(timer)
                else:
                    taken[name].append(timer.timeit(runs[name]) / runs[name])
                bar.update()
    return {name: torch.tensor(times, dtype=torch.float64) for name, times in taken.items()}


def machine() -> dict[str, Any]:
    """Versions and hardware, with the processor's name."""
    name, cpuinfo = platform.processor(), Path("/proc/cpuinfo")
    if cpuinfo.is_file():  # where Python itself does not know it
        lines = [line.partition(":") for line in cpuinfo.read_text(encoding="utf-8").splitlines()]
        name = next((value.strip() for key, _, value in lines if key.strip() == "model name"), name)
    return {"processor": name, **environment()}
