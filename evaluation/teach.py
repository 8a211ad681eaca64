"""Does a model learn a thing from five pictures and keep the others? Ten concepts the starter never saw.

`python -m evaluation.teach --data data/starter [--minutes 5] [--report docs/reports/teach.json]`
"""

import argparse
import hashlib
import json
import os
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from evaluation.drawing import draw_all
from evaluation.embeddings import embed_files
from evaluation.intervals import mean, proportion
from evaluation.questions import Question, questions
from evaluation.retrieval import Labels, ranks
from evaluation.starter_data import Thing, labels, read_things
from evaluation.taught_pictures import taught_pictures
from models.folder import model_path
from models.lora import LORA_SUFFIX, LORAS, LORAS_VARIABLE
from models.weights import read_json, sha256
from models.writing import write_bytes, write_json
from pipelines.local_engine import LocalEngine
from pipelines.prompt.expand import PromptFiles
from pipelines.prompt.lora import TAUGHT_WEIGHT, put_lora
from pipelines.request import GenerationRequest
from training.data.starter import HELD_OUT_CONCEPTS
from training.runs import runs_folder
from training.teach import main as teach

SEEDS = 10  # pictures of each concept by its name
OTHERS = 24  # captions of other concepts, drawn with and without each LoRA
NEAREST = 5


@dataclass(frozen=True, slots=True)
class Gallery:
    """What a drawn picture of one concept is compared with, as features.

    `others` (G, D) are all real pictures of other concepts, `taught` (5, D) those it was taught from and
    `untaught` (U, D) those of it in other styles, which it never saw.
    """

    others: Tensor
    taught: Tensor
    untaught: Tensor

    def found(self, drawn: Tensor) -> dict[str, Tensor]:
        """Whether the concept is among the five pictures nearest to each (N, D), by two rules, (N,) bool.

        "another": the taught picture that is nearest, the one it may be a copy of, is left out, as
        `retrieval.ranks` leaves out the training picture. "untaught": every taught picture is.
        """
        query = F.normalize(drawn)
        others, taught, untaught = (
            query @ F.normalize(one).T for one in (self.others, self.taught, self.untaught)
        )  # (N, G), (N, 5), (N, U)
        source = taught.argmax(1, keepdim=True)
        left = torch.cat([taught.scatter(1, source, -2), untaught], 1)
        return {
            "another": (others > left.amax(1, keepdim=True)).sum(1) < NEAREST,
            "untaught": (others > untaught.amax(1, keepdim=True)).sum(1) < NEAREST,
        }


@dataclass(frozen=True, slots=True)
class Learned:
    """A concept's LoRA, by the name it has in the folder, and what it took."""

    name: str
    minutes: float
    core_minutes: float
    steps: int


def learn(concept: str, pictures: list[Path], model: Path, minutes: float, folder: Path) -> Learned:
    """Teach a concept unless it is taught; its LoRA is named by its content, so that drawings may be kept."""
    run = folder / concept
    done = run / "measured.json"
    if not done.exists():
        shutil.rmtree(run, ignore_errors=True)  # what was interrupted begins anew: its time is measured
        begin, cpu = time.perf_counter(), time.process_time()
        teach(
            argparse.Namespace(
                name=concept, pictures=pictures, model=model, minutes=minutes, set=[], run=run, loras=run
            )
        )
        took = {"minutes": (time.perf_counter() - begin) / 60, "cores": torch.get_num_threads()}
        write_json(done, took | {"processor_minutes": (time.process_time() - cpu) / 60})
    took, file = read_json(done), run / f"{concept}{LORA_SUFFIX}"
    name = f"{concept}-{sha256(file)[:8]}"
    write_bytes(folder / LORAS / f"{name}{LORA_SUFFIX}", file.read_bytes())
    steps = read_json(run / "finished.json")["steps"]
    return Learned(name, took["minutes"], took["minutes"] * took["cores"], steps)


def kept(
    engine: LocalEngine, things: list[Thing], features: Tensor, asked: list[Question], tag: str
) -> Tensor:
    """Whether each caption's picture, drawn with a tag in its prompt, is found, (N,) bool."""
    requests = [request_of(engine, f"{one.prompt}{tag}", seed) for seed, one in enumerate(asked)]
    files = draw_all(engine, requests, "other concepts")
    drawn = embed_files(files, engine.model.defaults.width)
    wanted = Labels([one.concept for one in asked], [one.style for one in asked])
    return ranks(drawn, wanted, features, labels(things)) < NEAREST


def request_of(engine: LocalEngine, prompt: str, seed: int) -> GenerationRequest:
    """A picture as the model draws it by itself."""
    return GenerationRequest.from_options({"prompt": prompt, "seed": seed}, engine.model.defaults)


def measure(
    model: Path, data: Path, minutes: float, concepts: list[str], folder: Path
) -> list[dict[str, Any]]:
    """What each concept came to; every part is kept, so that what is interrupted goes on."""
    os.environ[LORAS_VARIABLE] = str(folder / LORAS)
    things = read_things(data)
    engine = LocalEngine(model, files=PromptFiles(folder))
    side = engine.model.defaults.width
    features = embed_files([thing.file for thing in things], side)
    kinds = questions(things, OTHERS * len(HELD_OUT_CONCEPTS) // 2, 0)
    captions = [one for pair in zip(kinds["train"], kinds["heldout"], strict=False) for one in pair]
    rows = []
    for concept in concepts:
        taught, untaught = taught_pictures(things, concept, folder / "pictures")
        learned = learn(concept, taught, model, minutes, folder)
        others = features[[i for i, thing in enumerate(things) if thing.concept != concept]]
        gallery = Gallery(others, embed_files(taught, side), embed_files(untaught, side))
        tag = put_lora("", learned.name, TAUGHT_WEIGHT)
        requests = [request_of(engine, f"{concept}{tag}", seed) for seed in range(SEEDS)]
        drawn = embed_files(draw_all(engine, requests, concept), side)
        place = HELD_OUT_CONCEPTS.index(concept)
        asked = captions[place :: len(HELD_OUT_CONCEPTS)][:OTHERS]
        before, after = (kept(engine, things, features, asked, words) for words in ("", tag))
        rows.append({
            "concept": concept,
            "minutes": round(learned.minutes, 2),
            "core_minutes": round(learned.core_minutes, 2),
            "steps": learned.steps,
            **{name: hits.int().tolist() for name, hits in gallery.found(drawn).items()},
            **{f"real_{name}": hits.int().tolist() for name, hits in gallery.found(gallery.taught).items()},
            "others_before": before.int().tolist(),
            "others_after": after.int().tolist(),
        })  # fmt: skip
        print(table(rows[-1:])[-1], flush=True)
    return rows


def table(rows: list[dict[str, Any]]) -> list[str]:
    """The rows for people, in Markdown."""
    lines = [
        "| concept | drawn by its name | found without any taught picture | minutes | core-minutes | steps "
        "| others before | others with it |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        shares = [sum(row[key]) / len(row[key]) for key in ("another", "untaught")]
        cells = [row["concept"], *(f"{share:.0%}" for share in shares)]
        cells += [str(row[key]) for key in ("minutes", "core_minutes", "steps")]
        cells += [f"{sum(row[key])} of {len(row[key])}" for key in ("others_before", "others_after")]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def summary(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Shares over all concepts, with intervals; what others lose is in points, paired by caption."""

    def share(key: str) -> dict[str, Any]:
        # Pictures of one concept agree more than those of different ones: R tries at each of N concepts.
        shortest = min(len(row[key]) for row in rows)
        hits = torch.tensor([row[key][:shortest] for row in rows]).bool().T  # (R, N)
        return proportion(hits).entry(key)

    result: dict[str, Any] = {}
    for key in ("another", "untaught", "real_another", "real_untaught", "others_before", "others_after"):
        result |= share(key)
    lost = torch.tensor([
        100.0 * (before - after)
        for row in rows
        for before, after in zip(row["others_before"], row["others_after"], strict=True)
    ])  # fmt: skip
    return {**result, **mean(lost).entry("points_lost_by_others", 2)}


def main() -> None:
    """Teach, measure, write the report and print it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--model", type=Path, default=Path("checkpoints/starter"))
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=5.0, help="to teach each concept")
    parser.add_argument("--concepts", default=",".join(HELD_OUT_CONCEPTS), help="with commas between them")
    parser.add_argument("--report", type=Path, default=Path("docs/reports/teach.json"))
    args = parser.parse_args()
    model = model_path(args.model)
    engine_id = hashlib.sha256(f"{model.absolute()} {args.minutes}".encode()).hexdigest()[:8]
    folder = runs_folder().absolute() / f"teach-{engine_id}"
    rows = measure(model, args.data, args.minutes, args.concepts.split(","), folder)
    result = {"settings": {"minutes": args.minutes, "seeds": SEEDS, "others": OTHERS}, **summary(rows)}
    write_bytes(args.report, (json.dumps({**result, "concepts": rows}, indent=1) + "\n").encode())
    print("\n".join(table(rows)))
    for key in ("another", "real_another", "untaught", "real_untaught", "points_lost_by_others"):
        print(f"{key}: {result[key]} {result[f'{key}_interval']}")


if __name__ == "__main__":
    main()
