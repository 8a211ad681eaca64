"""`evaluate diffusion`: does a model draw what it is asked, as real pictures show it, and by itself?"""

from argparse import Namespace
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from evaluation.copying import copied, nearest_distances, nearest_others
from evaluation.distances import (
    MIN_FRECHET_PICTURES,
    frechet_distance,
    kernel_distance,
    precision_recall,
)
from evaluation.drawing import draw_all
from evaluation.embeddings import embed_files
from evaluation.instant import compare
from evaluation.instant import lines as instant_lines
from evaluation.intervals import jackknife, proportion
from evaluation.networks import read_network
from evaluation.questions import Question, questions
from evaluation.record import record, show
from evaluation.retrieval import Labels, ranks
from evaluation.starter_data import Thing, labels, read_things
from models.defaults import METRICS
from models.errors import RequestError
from models.features import CHECKPOINT
from models.folder import model_path
from models.weights import read_json
from pipelines.local_engine import LocalEngine
from pipelines.request import GenerationRequest
from training.grid import save_grid

SEED_STRIDE = 1_000_000  # between the seeds of two rounds of the same captions
KINDS = {"train": "training captions", "heldout": "held-out pairs", "paraphrase": "other words"}


@dataclass(frozen=True, slots=True)
class Real:
    """The real pictures: what they are, and their features (G, D)."""

    things: list[Thing]
    features: Tensor

    def of(self, split: str) -> tuple[Tensor, Labels]:
        """Features and labels of one split."""
        at = [index for index, thing in enumerate(self.things) if thing.split == split]
        return self.features[at], labels([self.things[index] for index in at])

    def ranks(self, pictures: Tensor, asked: Labels) -> Tensor:
        """Of features (N, D), how many real pictures are nearer than the first of what was asked, (N,)."""
        return ranks(pictures, asked, self.features, labels(self.things))


def retrieval(real: Real, drawn: Tensor, asked: list[Question]) -> dict[str, Any]:
    """Shares of pictures whose nearest, or five nearest, real ones hold the concept; drawn (R, N, D).

    R rounds with other seeds; the ceiling is the share of held-out real pictures.
    """
    held_out, shown = real.of("held-out pair")
    ceiling = real.ranks(held_out, shown)
    wanted = Labels([one.concept for one in asked], [one.style for one in asked])
    found = torch.stack([real.ranks(features, wanted) for features in drawn])  # (R, N)
    result: dict[str, Any] = {"n": len(asked)}
    for name, nearest in (("top1", 1), ("top5", 5)):
        best, share = proportion(ceiling < nearest), proportion(found < nearest)
        result |= share.entry(name) | best.entry(f"ceiling_{name}")
        result[f"share_{name}"] = round(share.value / best.value, 4) if best.value else None
        result[f"{name}_rounds"] = [round(float((one < nearest).float().mean()), 4) for one in found]
    return result


def closeness(real: Tensor, drawn: Tensor, features: str = CHECKPOINT.name) -> dict[str, Any]:
    """Distances between features of real (N, D) and drawn (M, D) pictures, precision and recall.

    `features` names their network. Precision, recall and Frechet distance depend on how many pictures there
    are, so they are of equally many of both, `equal_pictures`: of the larger set a fixed sample.
    """
    equal = min(len(real), len(drawn))
    # In their order: the groups of the jackknife then keep the seeds of a caption together where they were.
    some_real, some_drawn = (x[sorted(Random(0).sample(range(len(x)), equal))] for x in (real, drawn))
    near = precision_recall(some_real, some_drawn)
    result: dict[str, Any] = {
        "features": features,
        "pictures": len(drawn),
        "equal_pictures": equal,
        **jackknife(lambda some: kernel_distance(real, some), drawn).entry("kernel_distance", 6),
        "frechet_distance": None,
        "frechet_distance_interval": None,
        **proportion(near.precise).entry("precision"),
        **proportion(near.recalled).entry("recall"),
    }
    if equal >= MIN_FRECHET_PICTURES:
        frechet = jackknife(lambda some: frechet_distance(some_real, some), some_drawn)
        result |= frechet.entry("frechet_distance")
    return result


def copying(real: Real, drawn: dict[str, Tensor], asked: dict[str, list[Question]]) -> dict[str, Any]:
    """The share of drawn pictures that are nearer to training than 95% of held-out ones, by kind.

    "real" is that of the training pictures themselves, each beside the others of its concept.
    """
    train, shown = real.of("train")
    held_out, theirs = real.of("held-out pair")
    usual = nearest_distances(held_out, theirs.concepts, train, shown)
    result = proportion(copied(nearest_others(train, shown), usual)).entry("real")
    for name, rounds in drawn.items():
        concepts = [one.concept for one in asked[name]]
        distances = [nearest_distances(features, concepts, train, shown) for features in rounds]
        result |= proportion(copied(torch.stack(distances), usual)).entry(name)
    return result


def known_better(folder: Path, result: dict[str, Any]) -> bool:
    """Whether metrics.json of a model folder has a result of the same weights on more captions."""
    file = folder / METRICS
    known = read_json(file).get("diffusion", {}) if file.exists() else {}
    same = known.get("model_id") == result["model_id"] and known.get("features") == result["features"]
    return bool(same and known["retrieval"]["train"]["n"] > result["retrieval"]["train"]["n"])


def lines(result: dict[str, Any]) -> list[str]:
    """A result as a table for people, in Markdown."""
    said, features = result["settings"], result["features"]
    rounds = said["rounds"]
    text = [
        f"{result['pictures']} pictures of training captions and those of the other kinds, "
        f"{said['steps']} steps, {said['sampler']}, guidance {said['guidance_scale']:g}, "
        f"{rounds} {'seed' if rounds == 1 else 'seeds'} a caption; features of {features}; 95% intervals.",
        "",
        "| asked | captions | nearest is right | one of five nearest is | real pictures | share of real |",
        "|---|---|---|---|---|---|",
    ]
    for name, words in KINDS.items():
        one = result["retrieval"][name]
        cells = [_percent(one, key) for key in ("top1", "top5", "ceiling_top5")]
        share = "-" if one["share_top5"] is None else f"{one['share_top5']:.1%}"
        text.append(f"| {words} | {one['n']} | {' | '.join(cells)} | {share} |")
    spread = [
        f"{words} {', '.join(f'{share:.1%}' for share in result['retrieval'][name]['top5_rounds'])}"
        for name, words in KINDS.items()
    ]
    low, high = result["kernel_distance_interval"]
    frechet = (
        f"not measured: needs {MIN_FRECHET_PICTURES} pictures"
        if result["frechet_distance"] is None
        else f"{result['frechet_distance']:.2f} "
        f"({result['frechet_distance_interval'][0]:.2f} to {result['frechet_distance_interval'][1]:.2f}), "
        f"{result['equal_pictures']} pictures each"
    )
    text += [
        "",
        f"- kernel distance ({features}): {result['kernel_distance']:.4f} ({low:.4f} to {high:.4f})",
        f"- Frechet distance ({features}): {frechet}",
        *([f"- one of five nearest, seed by seed: {'; '.join(spread)}"] if rounds > 1 else []),
        f"- precision {_percent(result, 'precision')}, recall {_percent(result, 'recall')}",
        "- nearer to a training picture than 95% of held-out real pictures: "
        + ", ".join(f"{words} {_percent(result['copied'], name)}" for name, words in KINDS.items())
        + f"; training pictures, each beside the others, {_percent(result['copied'], 'real')}",
    ]
    return text


def _percent(values: dict[str, Any], key: str) -> str:
    low, high = values[f"{key}_interval"]
    return f"{values[key]:.1%} ({low:.1%} to {high:.1%})"


def main(args: Namespace) -> int:
    """Run the command; `args` are its options as the parser names them."""
    things = read_things(Path(args.data))
    if args.grid is not None and not args.grid.absolute().parent.is_dir():
        raise RequestError(f"{args.grid} cannot be written: its folder does not exist")
    network = read_network(args.features)
    folder = model_path(args.model)
    engine = LocalEngine(folder, args.device, runner=args.engine)
    own_settings = args.steps is None and args.guidance_scale is None
    said = {"steps": args.steps, "guidance_scale": args.guidance_scale}
    resolution = engine.model.defaults.width
    asked = questions(things, args.count, args.seed)

    def draw(kind: str, **more: Any) -> tuple[GenerationRequest, list[list[Path]]]:
        """How pictures of one kind are asked for, and their files in each round."""
        files = []
        for first in range(0, args.rounds * SEED_STRIDE, SEED_STRIDE):
            options = [{**more, "prompt": one.prompt, "seed": first + i} for i, one in enumerate(asked[kind])]
            requests = [GenerationRequest.from_options(one, engine.model.defaults) for one in options]
            files.append(draw_all(engine, requests, KINDS[kind]))
        return requests[0], files

    def embed(files: list[list[Path]]) -> Tensor:
        return torch.stack([embed_files(paths, resolution, network) for paths in files])  # (R, N, D)

    files: dict[str, list[list[Path]]] = {}
    for kind in KINDS:
        request, files[kind] = draw(kind, **said)
    real = Real(things, embed_files([thing.file for thing in things], resolution, network))
    drawn = {kind: embed(rounds) for kind, rounds in files.items()}
    result = {
        "model_id": engine.model.model_id,
        "settings": {
            **{name: getattr(request, name) for name in ("steps", "guidance_scale", "sampler", "schedule")},
            "rounds": args.rounds,
            "seed": args.seed,
            "engine": engine.name,
        },
        "retrieval": {kind: retrieval(real, drawn[kind], asked[kind]) for kind in KINDS},
        **closeness(real.of("train")[0], drawn["train"].flatten(0, 1), network.name),
        "copied": copying(real, drawn, asked),
    }
    told = lines(result)
    # What another setting reaches, or another list of captions, is no property of the model.
    if own_settings and args.seed == 0 and not known_better(folder, result):
        other = None if network.is_shipped else network.name
        record(folder, "diffusion", result, told, other)
        if engine.model.instant is not None:
            request, rounds = draw("train", instant=True)
            student = {
                "model_id": engine.model.instant.model_id,
                "steps": request.steps,
                "guidance_scale": request.guidance_scale,
                **compare(real, asked["train"], drawn["train"], embed(rounds)),
            }
            record(folder, "instant", student, instant_lines(student), other)
            told += ["", *instant_lines(student)]
            result = {**result, "instant": student}
    show(result, told, args.json)
    if args.grid is not None:
        images = [Image.open(file) for file in files["train"][0][:64]]
        save_grid(images, args.grid, columns=8)
    return 0
