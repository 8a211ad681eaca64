"""Samplers and steps against time and quality, for one model."""

import sys
import time
from argparse import Namespace
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evaluation.diffusion import Real, retrieval
from evaluation.distances import kernel_distance
from evaluation.drawing import draw_all
from evaluation.embeddings import embed_files
from evaluation.frontier import frontier, say
from evaluation.intervals import jackknife, median
from evaluation.plots import Curve, Panel, save_plot
from evaluation.questions import Question, questions
from evaluation.record import show
from evaluation.starter_data import read_things
from evaluation.timing import by_turns, machine
from models.errors import RequestError
from models.features import CHECKPOINT
from models.folder import model_path
from models.writing import write_bytes, write_json
from pipelines.local_engine import LocalEngine
from pipelines.request import GenerationRequest

SAMPLERS = ["DPM++ 2M", "UniPC", "DEIS", "Euler", "Euler a", "Heun", "DDIM"]
STEPS = [4, 6, 8, 12, 20]
COUNT = 200
NAME = "samplers"  # of the files


@dataclass(frozen=True, slots=True)
class Setting:
    """One sampler with one number of steps, and what it is asked to draw."""

    sampler: str
    steps: int
    requests: list[GenerationRequest]

    @property
    def name(self) -> str:
        """For people."""
        return f"{self.sampler}, {self.steps} steps"


def settings(engine: LocalEngine, args: Namespace, asked: list[Question]) -> list[Setting]:
    """Every sampler with every number of steps; RequestError where the model cannot be drawn with so."""
    found = []
    for sampler in args.samplers or SAMPLERS:
        for steps in args.steps or STEPS:
            words = {"sampler": sampler, "steps": steps}
            options = [words | {"prompt": one.prompt, "seed": seed} for seed, one in enumerate(asked)]
            requests = [GenerationRequest.from_options(one, engine.model.defaults) for one in options]
            if reason := engine.why_not(requests[0]):
                raise RequestError(reason)
            found.append(Setting(requests[0].sampler, steps, requests))
    return found


def measure(engine: LocalEngine, args: Namespace) -> dict[str, Any]:
    """Time and quality of every setting."""
    things = read_things(Path(args.data))
    asked = questions(things, args.count or COUNT, args.seed)["train"]
    tried = settings(engine, args, asked)

    def draw(one: Setting, number: int) -> None:
        for _ in engine.generate(one.requests[number % len(one.requests)]):
            pass

    calls = {one.name: lambda number, one=one: draw(one, number) for one in tried}
    taken = by_turns(calls, args.rounds, "timing")
    work = sum(median(times).value for times in taken.values()) * len(asked) / 3600
    say(f"drawing takes {work:.1f} hours of one core that is free, less what is drawn already")
    resolution = engine.model.defaults.width
    real = Real(things, embed_files([thing.file for thing in things], resolution))
    training_pictures, _ = real.of("train")
    points: list[dict[str, Any]] = []
    for number, one in enumerate(tried, 1):
        say(f"{one.name} ({number} of {len(tried)})")
        drawn = embed_files(draw_all(engine, one.requests, one.name), resolution)  # (N, D)
        distance = jackknife(lambda some: kernel_distance(training_pictures, some), drawn)
        found = retrieval(real, drawn[None], asked)
        points.append(
            {
                "sampler": one.sampler,
                "steps": one.steps,
                **median(taken[one.name]).entry("seconds_per_picture", 5),
                **distance.entry("kernel_distance", 5),
                **{name: found[name] for name in ("top5", "top5_interval")},
            }
        )
    for name, sign in (("kernel_distance", 1), ("top5", -1)):
        best = frontier([(point["seconds_per_picture"], sign * point[name]) for point in points])
        for point, on_it in zip(points, best, strict=True):
            point[f"on_frontier_{name}"] = on_it
    return {
        "model": engine.model.name,
        "model_id": engine.model.model_id,
        "engine": engine.name,
        "features": CHECKPOINT.name,
        "pictures": len(asked),
        "seed": args.seed,
        "guidance_scale": tried[0].requests[0].guidance_scale,
        "rounds": args.rounds,
        **{name: found[name] for name in ("ceiling_top5", "ceiling_top5_interval")},
        "points": points,
        "machine": machine(),
        "command": ["launch.py", *sys.argv[1:]],
        "date": time.strftime("%Y-%m-%d"),
    }


def lines(result: dict[str, Any]) -> list[str]:
    """A result as a table for people, in Markdown, the fastest first."""
    text = [
        f"{result['pictures']} training captions, guidance {result['guidance_scale']:g}, one thread of "
        f"{result['machine']['processor'] or 'this machine'}; 95% intervals. On the frontier (*) nothing is "
        "both faster and better.",
        "",
        f"| sampler | steps | seconds a picture | kernel distance ({result['features']}) "
        "| one of five nearest is right |",
        "|---|---|---|---|---|",
    ]
    for point in sorted(result["points"], key=lambda point: point["seconds_per_picture"]):
        near, found, taken = (
            _cell(point, name, form)
            for name, form in (("kernel_distance", ".3f"), ("top5", ".1%"), ("seconds_per_picture", ".3g"))
        )
        text.append(f"| {point['sampler']} | {point['steps']} | {taken} | {near} | {found} |")
    return text


def _cell(point: dict[str, Any], name: str, form: str) -> str:
    low, high = point[f"{name}_interval"]
    star = " *" if point.get(f"on_frontier_{name}") else ""
    return f"{point[name]:{form}} ({low:{form}} to {high:{form}}){star}"


def panels(result: dict[str, Any]) -> list[Panel]:
    """Time against each of the two measures of quality, a curve for each sampler."""
    names = list(dict.fromkeys(point["sampler"] for point in result["points"]))
    shown = []
    for measure, y_name, title in (
        ("kernel_distance", "kernel distance", f"distance in {result['features']} features, lower is better"),
        (
            "top5",
            "share of pictures",
            f"one of five nearest is right (of real ones {result['ceiling_top5']:.0%})",
        ),
    ):
        curves = []
        for colour, name in enumerate(names):
            own = [point for point in result["points"] if point["sampler"] == name]
            x, y, steps = ([point[key] for point in own] for key in ("seconds_per_picture", measure, "steps"))
            intervals = [point[f"{measure}_interval"] for point in own]
            curves.append(Curve(name, x, y, intervals, colour, words=[str(one) for one in steps]))
        best = [point for point in result["points"] if point[f"on_frontier_{measure}"]]
        joined = sorted((point["seconds_per_picture"], point[measure]) for point in best)
        shown.append(Panel(title, "seconds a picture (one thread)", y_name, curves, joined))
    return shown


def main(args: Namespace) -> int:
    """Run the command; `args` has model, data, device, samplers, steps, count, rounds, seed, output, json."""
    result = measure(LocalEngine(model_path(args.model), args.device, runner=args.engine), args)
    told = lines(result)
    if args.output is not None:
        write_json(args.output / f"{NAME}.json", result)
        write_bytes(args.output / f"{NAME}.md", ("\n".join(told) + "\n").encode())
        save_plot(panels(result), args.output / NAME)
    show(result, told, args.json)
    return 0
