"""Values with their 95% intervals."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

Z95 = 1.959964  # standard deviations of a normal distribution that hold 95% of it


@dataclass(frozen=True, slots=True)
class Measured:
    """A value and the ends of its 95% interval."""

    value: float
    low: float
    high: float

    def entry(self, name: str, digits: int = 4) -> dict[str, Any]:
        """{name: value, name_interval: [low, high]}, rounded."""
        ends = [round(self.low, digits), round(self.high, digits)]
        return {name: round(self.value, digits), f"{name}_interval": ends}

    def __str__(self) -> str:
        return f"{self.value:.4g} ({self.low:.4g} to {self.high:.4g})"


def proportion(hits: Tensor) -> Measured:
    """The share of true in (N,) bool, or of R tries at each of N things, (R, N), with Wilson's interval.

    Tries at the same thing agree more than tries at different things, so R N of them count as the effective
    number of independent ones, N at least (Wilson 1927; Korn & Graubard 1998).
    """
    tries = hits.float().reshape(-1, hits.shape[-1])  # (R, N)
    n, share = float(hits.shape[-1]), float(tries.mean())
    if len(tries) > 1 and (variance := float(tries.mean(0).var()) / n):
        n = min(max(n, share * (1 - share) / variance), tries.numel())
    centre = (share + Z95**2 / (2 * n)) / (1 + Z95**2 / n)
    half = Z95 / (1 + Z95**2 / n) * math.sqrt(share * (1 - share) / n + Z95**2 / (4 * n**2))
    # Rounding may carry an end a hair beyond the share itself, or beyond 0 and 1.
    return Measured(share, max(0.0, min(share, centre - half)), min(1.0, max(share, centre + half)))


def mean(values: Tensor) -> Measured:
    """The mean of (N,) values, N of at least 2, with the normal interval."""
    middle, half = float(values.mean()), Z95 * float(values.std()) / math.sqrt(len(values))
    return Measured(middle, middle - half, middle + half)


def median(values: Tensor) -> Measured:
    """The median of (N,) values between two of them, whatever their distribution (Thompson 1936).

    The k-th from either end, with the largest k for which P(Binomial(N, 1/2) < k) <= 2.5%; of fewer than six
    values the first and the last, which hold the median less often than 95%.
    """
    ordered, n, k = values.sort().values, len(values), 0
    tail = 0.5**n
    while tail <= 0.025:
        k += 1
        tail += math.comb(n, k) * 0.5**n
    k = max(k, 1)
    middle = float(ordered[(n - 1) // 2] + ordered[n // 2]) / 2
    return Measured(middle, float(ordered[k - 1]), float(ordered[n - k]))


def jackknife(statistic: Callable[[Tensor], float], samples: Tensor, groups: int = 10) -> Measured:
    """A statistic of samples (N, ...) with the interval of the delete-a-group jackknife (Shao & Wu 1989).

    Samples are dealt to `groups` groups in turn, N of at least `groups`; each is left out once, so the
    statistic is computed `groups` + 1 times.
    """
    value = statistic(samples)
    group = torch.arange(len(samples)) % groups
    without = torch.tensor([statistic(samples[group != one]) for one in range(groups)], dtype=torch.float64)
    variance = (groups - 1) / groups * (without - without.mean()).square().sum()
    half = Z95 * math.sqrt(float(variance))
    return Measured(value, value - half, value + half)
