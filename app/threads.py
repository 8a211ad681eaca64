"""How many threads torch computes with: chosen for what this process may use, unless a person chose."""

import math
from collections.abc import MutableMapping
from dataclasses import dataclass

from models.machine import cpu_quota, usable_cores

VARIABLE = "OMP_NUM_THREADS"


@dataclass(frozen=True, slots=True)
class Threads:
    """How many, and the reason in words."""

    count: int
    why: str


def choose_threads(cores: int, quota: float | None) -> Threads:
    """A thread for each physical core that may be used, and no more than the CPU time allowed can feed."""
    if quota is not None and quota < cores:
        return Threads(
            max(1, math.ceil(quota)), f"this container may use {quota:g} CPUs of its {cores} physical cores"
        )
    return Threads(cores, "physical cores that this process may use")


def set_threads(environment: MutableMapping[str, str]) -> None:
    """Write the choice where torch will read it, also in processes that this one starts."""
    environment.setdefault(VARIABLE, str(choose_threads(usable_cores(), cpu_quota()).count))


def threads_of(environment: MutableMapping[str, str]) -> Threads:
    """How many threads torch will have in an environment that `set_threads` has seen."""
    chosen = choose_threads(usable_cores(), cpu_quota())
    asked = environment.get(VARIABLE, "")
    if asked in ("", str(chosen.count)):
        return chosen
    first = asked.partition(",")[0].strip()  # OpenMP takes a list, one number for each level
    return Threads(int(first) if first.isdecimal() else chosen.count, f"{VARIABLE} is {asked}")
