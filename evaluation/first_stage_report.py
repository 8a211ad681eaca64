"""What came of the arms of latents against pixels: figures, table, plot."""

import sys
import time
from argparse import Namespace
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from evaluation.arms import Experiment
from evaluation.diffusion import closeness
from evaluation.distances import kernel_distance
from evaluation.intervals import Measured, jackknife
from evaluation.plots import Curve, Panel, save_plot
from evaluation.record import fill, show
from evaluation.throughput import Throughput
from evaluation.timing import machine
from models.features import CHECKPOINT
from models.pixels import PIXELS
from models.writing import write_bytes, write_json

NAME = "latents-vs-pixels"  # of the files, and of the page's place for them
REPORTS = Path(__file__).resolve().parents[1] / "docs" / "reports"
PAPER = (  # Rombach et al. 2022, table 6: inpainting at 256 px, equal parameters, after six epochs
    "| LDM-4 KL, the paper | 2.91x | 3.73x | 1.63x (FID) |",
    "| LDM-4 VQ, the paper | 3.00x | 3.73x | 1.65x (FID) |",
    "| LDM-4 VQ without attention, the paper | 3.18x | 3.81x | 1.55x (FID) |",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """An arm after a budget: what it was trained on, and the features (N, D) of what it draws."""

    seconds: int
    steps: int
    images: int
    features: Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What came of an arm: its learning rate with those that were tried, and its points."""

    latents: str  # their shape, channels first
    denoiser_parameters: int
    psnr_db: float | None  # of the autoencoder on held-out pictures
    trials: list[dict[str, float]]
    learning_rate: float
    points: list[Point]


def distance_ratio(real: Tensor, pixels: Tensor, latents: Tensor) -> Measured:
    """How many times farther from real pictures (G, D) those of pixel space are, by kernel distance.

    Both are (N, D), drawn from the same prompts, so pairs are left out together.
    """

    def ratio(some: Tensor) -> float:
        return kernel_distance(real, some[:, 0]) / kernel_distance(real, some[:, 1])

    return jackknife(ratio, torch.stack([pixels, latents], 1))


def figures(
    experiment: Experiment, speeds: dict[str, Throughput], outcomes: dict[str, Outcome], real: Tensor
) -> dict[str, Any]:
    """Every arm and budget, the ratios to pixels at the largest budget, and the best arm's; real (G, D)."""
    largest, arms = max(experiment.budgets), dict[str, Any]()
    in_pixels = outcomes[PIXELS].points[-1]
    for arm in experiment.arms:
        speed, came = speeds[arm.name], outcomes[arm.name]
        cost = speed.stage1_cost(arm, len(real), experiment.stage1_seconds)
        entry: dict[str, Any] = {
            "f": arm.f,
            "regularizer": arm.regularizer,
            "denoiser_parameters": came.denoiser_parameters,
            "latents": came.latents,
            "learning_rate": came.learning_rate,
            "trials": came.trials,
            **speed.train.entry("train_images_per_second", 3),
            **speed.sample.entry("sample_images_per_second", 3),
            **speed.train_ratio.entry("train_throughput_ratio", 3),
            **speed.sample_ratio.entry("sample_throughput_ratio", 3),
            "stage1_seconds": round(cost, 1),
            "autoencoder_psnr_db": came.psnr_db,
            "budgets": [
                {
                    "seconds": point.seconds,
                    "seconds_with_stage1": round(point.seconds + cost, 1),
                    "steps": point.steps,
                    "images": point.images,
                    **closeness(real, point.features),
                }
                for point in came.points
            ],
            **distance_ratio(real, in_pixels.features, came.points[-1].features).entry("distance_ratio", 3),
        }
        # With stage 1, what an arm has left of the largest budget is compared with pixels after all of it.
        affordable = [point for point in came.points if point.seconds + cost <= largest]
        entry |= {"train_images_ratio_with_stage1": None, "distance_ratio_with_stage1": None}
        if affordable:
            ratio = distance_ratio(real, in_pixels.features, affordable[-1].features)
            entry |= ratio.entry("distance_ratio_with_stage1", 3)
            entry["seconds_beside_stage1"] = affordable[-1].seconds
        if cost < largest:
            share = (largest - cost) / largest
            entry["train_images_ratio_with_stage1"] = round(share * speed.train_ratio.value, 3)
        last = [one["budgets"][-1]["frechet_distance"] for one in (arms.get(PIXELS, entry), entry)]
        entry["frechet_distance_ratio"] = None if None in last else round(last[0] / last[1], 3)
        arms[arm.name] = entry
    latents = [name for name in arms if name != PIXELS]
    best = min(latents, key=lambda name: arms[name]["budgets"][-1]["kernel_distance"])
    ratios = ("train_throughput_ratio", "sample_throughput_ratio", "distance_ratio")
    kept = ["f", "regularizer", *(key for name in ratios for key in (name, f"{name}_interval"))]
    kept += [name for name in arms[best] if name.endswith("with_stage1") or "with_stage1_interval" in name]
    return {
        "best": {"arm": best, **{name: arms[best][name] for name in kept}},
        "arms": arms,
        "features": CHECKPOINT.name,
        "settings": experiment.settings,
    }


def lines(result: dict[str, Any]) -> list[str]:
    """A result as a table for people, in Markdown, with the plot."""
    said, best, arms = result["settings"], result["best"], result["arms"]
    budgets = said["budgets"]
    text = [
        f"Measured on {result['date']}, on one thread of {result['machine']['processor'] or 'a CPU'}, by",
        "",
        f"    python {' '.join(result['command'])}",
        "",
        f"At {said['resolution']} px, batches of {said['batch_size']}, {said['count']} pictures a point "
        f"({said['steps']} steps, {said['sampler']}, no guidance); kernel distance of {result['features']} "
        "features; its 95% intervals are of what is drawn: each arm was trained once. Speeds are medians of "
        "rounds, their ratios the medians of the rounds' own; of fewer than six rounds their intervals go "
        "from the least to the most.",
        "",
        "| first stage | latents | denoiser | trains on, images/s | draws, images/s |"
        + "".join(f" distance after {seconds} s |" for seconds in budgets)
        + " pixels' distance / its own | with stage 1 |",
        "|---|---|---|---|---|" + "---|" * len(budgets) + "---|---|",
    ]
    for name, arm in arms.items():
        cells = [name, arm["latents"], f"{arm['denoiser_parameters'] / 1e6:.2f} M"]
        for kind in ("train", "sample"):
            ratio = _ends(arm, f"{kind}_throughput_ratio", ".2f")
            cells.append(f"{arm[f'{kind}_images_per_second']:.3g}; x {ratio}")
        cells += [_ends(one, "kernel_distance", ".3f") for one in arm["budgets"]]
        cells += [_ends(arm, f"distance_ratio{end}", ".2f") for end in ("", "_with_stage1")]
        text.append(f"| {' | '.join(cells)} |")
    in_pixels = arms[PIXELS]["budgets"][-1]
    text += [
        "",
        f"The best is **{best['arm']}**: {best['train_throughput_ratio']:.2f} times the training and "
        f"{best['sample_throughput_ratio']:.2f} times the sampling throughput of pixels, which are "
        f"{best['distance_ratio']:.2f} times as far from real pictures after {budgets[-1]} s. Pixels were "
        f"trained on {in_pixels['images']:,} images by then, {best['arm']} on "
        f"{arms[best['arm']]['budgets'][-1]['images']:,}.",
        "",
        "| | trains on | draws | distance of pixels / its own |",
        "|---|---|---|---|",
        *(
            f"| {name} here | {arm['train_throughput_ratio']:.2f}x | {arm['sample_throughput_ratio']:.2f}x | "
            f"{arm['distance_ratio']:.2f}x (kernel) |"
            for name, arm in arms.items()
            if name != PIXELS
        ),
        *PAPER,
        "",
        *_beside(result),
    ]
    return text


def _beside(result: dict[str, Any]) -> list[str]:
    """What else is to be known of the arms, in Markdown."""
    rates = ", ".join(f"{rate:g}" for rate in sorted(result["settings"]["learning_rates"]))
    said = result["settings"]
    text = [
        f"Each arm took the best of the learning rates {rates} after {said['trial_seconds']} s. "
        f"After {said['budgets'][-1]} s:",
        "",
        "| first stage | learning rate | autoencoder's PSNR | precision, recall | images for one of pixels, "
        "stage 1 paid |",
        "|---|---|---|---|---|",
    ]
    for name, arm in result["arms"].items():
        psnr, images = arm["autoencoder_psnr_db"], arm["train_images_ratio_with_stage1"]
        last = arm["budgets"][-1]
        cells = [
            name,
            f"{arm['learning_rate']:g}",
            "-" if psnr is None else f"{psnr:.1f} dB",
            f"{last['precision']:.0%}, {last['recall']:.0%}",
            "-" if images is None else f"{images:.2f}",
        ]
        text.append(f"| {' | '.join(cells)} |")
    return text


def _ends(entry: dict[str, Any], name: str, form: str) -> str:
    if entry[name] is None:
        return "-"
    low, high = entry[f"{name}_interval"]
    return f"{entry[name]:{form}} ({low:{form}} to {high:{form}})"


def panels(result: dict[str, Any]) -> list[Panel]:
    """Distance against seconds of stage 2, and of both stages: a line for each arm, those of VQ dashed."""
    factors = list(dict.fromkeys(arm["f"] for arm in result["arms"].values()))
    shown = []
    for key, title in (("seconds", "stage 2 alone"), ("seconds_with_stage1", "with the cost of stage 1")):
        curves = []
        for name, arm in result["arms"].items():
            points = arm["budgets"]
            x, y, intervals = (
                [one[part] for one in points] for part in (key, "kernel_distance", "kernel_distance_interval")
            )
            dashed = arm["regularizer"] == "vq"
            curves.append(Curve(name, x, y, intervals, factors.index(arm["f"]), dashed))
        y_name = f"kernel distance ({result['features']})"
        shown.append(Panel(title, "seconds of training (one thread)", y_name, curves))
    return shown


def write_report(
    experiment: Experiment,
    speeds: dict[str, Throughput],
    outcomes: dict[str, Outcome],
    real: Tensor,
    args: Namespace,
) -> None:
    """Write JSON, plot and table into `args.output`, docs/reports by default, and show the table.

    It also goes to its place in latents-vs-pixels.md in the folder above, where there is that page.
    """
    folder = args.output or REPORTS
    result = figures(experiment, speeds, outcomes, real)
    result |= {
        "machine": machine(),
        "command": ["launch.py", *sys.argv[1:]],
        "date": time.strftime("%Y-%m-%d"),
    }
    told = lines(result)
    write_json(folder / f"{NAME}.json", result)
    write_bytes(folder / f"{NAME}.md", ("\n".join(told) + "\n").encode())
    save_plot(panels(result), folder / NAME)
    plot = f"![Distance against seconds of training, a line for each arm]({folder.name}/{NAME}.svg)"
    fill(folder.parent / f"{NAME}.md", NAME, [plot, "", *told])
    show(result, told, args.json)
