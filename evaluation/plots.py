"""Curves with their intervals, as PNG and SVG."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullFormatter

# Okabe and Ito 2008: told apart by people who see fewer colours, too.
COLOURS = ("#000000", "#D55E00", "#0072B2", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#8C8C8C")
MARKERS = "osD^vPX*"


@dataclass(frozen=True, slots=True)
class Curve:
    """Points (x, y) with 95% intervals of y; `dashed` for one that belongs to another of its colour.

    `words` stand beside the points, "" for none.
    """

    name: str
    x: Sequence[float]
    y: Sequence[float]
    intervals: Sequence[Sequence[float]]
    colour: int
    dashed: bool = False
    words: Sequence[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Panel:
    """One pair of axes; `frontier` are points to join that nothing is better than, in order."""

    title: str
    x: str
    y: str
    curves: Sequence[Curve]
    frontier: Sequence[tuple[float, float]] = ()


def save_plot(panels: Sequence[Panel], stem: Path) -> None:
    """Write `stem`.png and `stem`.svg, the panels side by side, x logarithmic, one legend for all.

    The same numbers give the same SVG.
    """
    figure = Figure(figsize=(6 * len(panels), 5), layout="constrained")
    for axes, panel in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
        _draw(axes, panel)
    handles, names = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=min(len(names), 8), frameon=False)
    figure.savefig(stem.with_name(f"{stem.name}.png"), dpi=130)
    with rc_context({"svg.hashsalt": stem.name, "svg.fonttype": "none"}):  # text stays text
        figure.savefig(stem.with_name(f"{stem.name}.svg"), metadata={"Date": None})


def _draw(axes: Axes, panel: Panel) -> None:
    if panel.frontier:
        axes.plot(
            *zip(*panel.frontier, strict=True),
            color="#BBBBBB",
            linewidth=6,
            solid_capstyle="round",
            zorder=0,
            label="frontier",
        )
    for curve in panel.curves:
        below = [y - low for y, (low, _) in zip(curve.y, curve.intervals, strict=True)]
        above = [high - y for y, (_, high) in zip(curve.y, curve.intervals, strict=True)]
        axes.errorbar(
            curve.x,
            curve.y,
            yerr=[below, above],
            label=curve.name,
            color=COLOURS[curve.colour % len(COLOURS)],
            marker=MARKERS[curve.colour % len(MARKERS)],
            linestyle="--" if curve.dashed else "-",
            fillstyle="none" if curve.dashed else "full",
            capsize=2,
            elinewidth=0.8,
            markersize=5,
        )
        for x, y, word in zip(curve.x, curve.y, curve.words, strict=False):
            axes.annotate(word, (x, y), xytext=(4, 4), textcoords="offset points", fontsize=7)
    axes.set_xscale("log")
    for axis in (axes.xaxis, axes.yaxis):  # 1200 and not 1.2 x 10^3
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    ticks = sorted({x for curve in panel.curves for x in curve.x})
    axes.xaxis.set_major_locator(FixedLocator(ticks) if len(ticks) <= 6 else LogLocator(subs=(1, 2, 5)))
    axes.set(title=panel.title, xlabel=panel.x, ylabel=panel.y)
    axes.grid(visible=True, alpha=0.3)
