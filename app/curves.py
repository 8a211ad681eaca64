"""Curves as HTML: lines in an SVG that stretches, its numbers beside it in the page's own type."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import numpy as np
from numpy.typing import NDArray

from app import text
from app.metrics import Series, thinned

WIDTH, HEIGHT = 1000, 400  # of the SVG's own units, which are stretched to the room there is


@dataclass(frozen=True, slots=True)
class Curve:
    """A named line; `place` is which of the colours it has, 0 or 1."""

    name: str
    series: Series
    place: int


@dataclass(frozen=True, slots=True)
class Axis:
    """Values from `low` to `high` laid over 0 to 1, evenly or by their logarithm."""

    low: float
    high: float
    log: bool

    @classmethod
    def over(cls, values: NDArray[np.float64], log: bool) -> "Axis":
        """The axis that just holds these values; a logarithm only where all of them are above zero."""
        low, high = float(values.min()), float(values.max())
        log = log and low > 0
        if high - low < 1e-9 * max(abs(high), 1e-9):
            margin = abs(high) / 2 or 0.5
            low, high = (low / 2, high * 2) if log else (low - margin, high + margin)
        return cls(low, high, log)

    def place(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Where values lie, from 0 at the low end to 1."""
        if self.log:
            return np.log(values / self.low) / math.log(self.high / self.low)
        return (values - self.low) / (self.high - self.low)

    def ticks(self, most: int = 5) -> list[float]:
        """Round values within the axis: 1, 2 or 5 times powers of ten."""
        if self.log and self.high / self.low > 8:
            decades = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
            for factors in ((1, 2, 5), (1, 3), (1,)):
                found = [factor * 10.0**decade for decade in decades for factor in factors]
                inside = [value for value in found if self.low <= value <= self.high]
                if len(inside) <= most:
                    break
            return inside[:: -(-len(inside) // most)]
        rough = (self.high - self.low) / most
        power = 10.0 ** math.floor(math.log10(rough))
        step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough)
        first = math.ceil(self.low / step)
        return [step * number for number in range(first, math.floor(self.high / step + 1e-9) + 1)]


def plot(title: str, curves: Sequence[Curve], log: bool = False, steps_to: float = 0) -> str:
    """Curves over steps from 0 to at least `steps_to` in one frame; "" where there is not one value."""
    shown = [Curve(one.name, thinned(one.series), one.place) for one in curves if len(one.series.steps)]
    if not shown:
        return ""
    steps = Axis(0, max(steps_to, 1, *(float(one.series.steps.max()) for one in shown)), log=False)
    values = Axis.over(np.concatenate([one.series.values for one in shown]), log)
    grid = "".join(
        f'<line x1="0" x2="{WIDTH}" y1="{y:.1f}" y2="{y:.1f}"/>'
        for y in (HEIGHT * (1 - _at(values, tick)) for tick in values.ticks())
    )
    lines = "".join(_line(one, steps, values) for one in shown)
    beside = "".join(
        f'<span style="bottom:{100 * _at(values, tick):.2f}%">{_number(tick)}</span>'
        for tick in values.ticks()
    )
    below = "".join(
        f'<span style="left:{100 * _at(steps, tick):.2f}%">{_number(tick)}</span>' for tick in steps.ticks(4)
    )
    summary = " ".join(_in_words(one) for one in shown)
    legend = "".join(f'<span class="ls-key-{one.place}">{escape(one.name)}</span>' for one in shown)
    kind = text.CURVE_LOG if values.log else text.CURVE_LINEAR
    return (
        f'<figure class="ls-plot"><figcaption><b>{escape(title)}</b> <small>{kind}</small>'
        f'<span class="ls-legend">{legend if len(shown) > 1 else ""}</span></figcaption>'
        f'<div class="ls-beside" aria-hidden="true">{beside}</div>'
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" preserveAspectRatio="none" role="img" '
        f'aria-label="{escape(f"{title}. {summary}")}"><g class="ls-ruled">{grid}</g>{lines}</svg>'
        f'<div class="ls-below" aria-hidden="true">{below}</div></figure>'
    )


def _line(curve: Curve, steps: Axis, values: Axis) -> str:
    xs = WIDTH * steps.place(curve.series.steps)
    ys = HEIGHT * (1 - values.place(curve.series.values))
    points = " ".join(f"{x:.1f},{y:.1f}" for x, y in zip(xs, ys, strict=True))
    # A line of no length, with round ends, is a dot: the only shape that does not stretch with the frame.
    dots = "".join(f"M{x:.1f},{y:.1f}h0" for x, y in zip(xs, ys, strict=True)) if len(xs) <= 20 else ""
    return (
        f'<polyline class="ls-line-{curve.place}" points="{points}"/>'
        f'<path class="ls-dots ls-line-{curve.place}" d="{dots}"/>'
    )


def _in_words(curve: Curve) -> str:
    series, lowest = curve.series, int(curve.series.values.argmin())
    return text.CURVE_IN_WORDS.format(
        name=curve.name,
        first=_number(series.values[0]),
        last=_number(series.values[-1]),
        last_step=_number(series.steps[-1]),
        lowest=_number(series.values[lowest]),
        lowest_step=_number(series.steps[lowest]),
    )


def _at(axis: Axis, value: float) -> float:
    return float(axis.place(np.array([value]))[0])


def _number(value: float) -> str:
    """As people read it on an axis: 12,000, 0.35, 0.002."""
    if value >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3g}"
