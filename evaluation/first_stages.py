"""Compute against quality over the first stage: every arm trained for the same budgets, and compared.

It trains in run folders, one for each autoencoder, learning rate and length, so what is done is not done
again. A longer training of stage 2 goes on from the checkpoint of a shorter one, trials included.
"""

import json
import shutil
import sys
from argparse import Namespace
from collections.abc import Callable
from contextlib import redirect_stdout
from datetime import timedelta
from pathlib import Path
from typing import Any

from evaluation.arms import Arm, Experiment
from evaluation.drawing import draw_in_batches
from evaluation.embeddings import embed_files, embed_pictures
from evaluation.first_stage_report import Outcome, Point, write_report
from evaluation.frontier import say
from evaluation.throughput import Throughput, steps_of, throughputs
from models.pixels import PIXELS
from pipelines.local_engine import LocalEngine
from training.autoencoder import AutoencoderStage
from training.config import AutoencoderConfig, DiffusionConfig, Training
from training.data.pictures import Pictures, load_pictures
from training.diffusion import DiffusionStage
from training.distributed import connect
from training.loop import Stage, start
from training.runs import FINISHED

GRID_STEPS, GRID_CALLS = 20, 2  # of the samples that every training of stage 2 ends with, guided


def plan(experiment: Experiment, speeds: dict[str, Throughput], pictures: int) -> list[str]:
    """How fast each arm is and how long all of it will take, for people."""
    text = ["images a second of one thread, and how many times those of pixels:"]
    needed = dict.fromkeys(("stage 1", "encoding", "trials", "training", "samples", "drawing"), 0.0)
    for arm in experiment.arms:
        speed, budgets, tried = speeds[arm.name], experiment.budgets, len(experiment.learning_rates)
        text.append(
            f"  {arm.name:8} trains on {speed.train.value:7.2f} ({speed.train_ratio.value:.2f}), "
            f"draws {speed.sample.value:7.3f} ({speed.sample_ratio.value:.2f})"
        )
        if arm.regularizer is not None:
            needed["stage 1"] += experiment.stage1_seconds
            needed["encoding"] += pictures / speed.encode
        needed["trials"] += tried * experiment.trial_seconds
        needed["training"] += max(budgets) - experiment.trial_seconds
        drawing = 1 / speed.sample.value
        grid = Training().sample_pictures * GRID_CALLS * GRID_STEPS / experiment.steps * drawing
        needed["samples"] += (tried + len(budgets)) * grid
        needed["drawing"] += len(budgets) * experiment.count * drawing
    total = sum(needed.values())
    parts = ", ".join(f"{name} {timedelta(seconds=round(taken))}" for name, taken in needed.items())
    text.append(f"all of it takes {total / 3600:.1f} hours of a free core, less what is done: {parts}")
    text.append(f"in {experiment.folder}; stop it at any time, the same command goes on")
    return text


def train(stage: Callable[[Any], Stage], config: AutoencoderConfig | DiffusionConfig, folder: Path) -> None:
    """Train in a run folder, or find it done."""
    if not (folder / FINISHED).exists():
        with redirect_stdout(sys.stderr):  # which is the result's alone
            made: Any = stage(config)
            start(made, made.config, connect(config.training), folder, dry_run=False)


def first_stage(experiment: Experiment, arm: Arm, speed: Throughput) -> Path | str:
    """What `model.autoencoder` is in an arm, once it is trained."""
    if arm.regularizer is None:
        return PIXELS
    steps = steps_of(speed.stage1, experiment.stage1_seconds, experiment.batch_size)
    folder = experiment.folder / f"{arm.name}-stage1-{experiment.stage1_seconds}s"
    say(f"{arm.name}: stage 1, {steps} steps")
    train(AutoencoderStage, experiment.autoencoder_config(arm, steps), folder)
    return folder / "model"


def second_stage(
    experiment: Experiment, arm: Arm, autoencoder: Path | str, speed: Throughput
) -> tuple[list[dict[str, float]], dict[int, Path]]:
    """Every learning rate with its validation loss, and the folder of each budget's run at the best."""
    shortest, stem = experiment.trial_seconds, arm.name
    if arm.regularizer is not None:
        stem += f"-{experiment.stage1_seconds}s"

    def run(rate: float, seconds: int, before: Path | None) -> Path:
        folder = experiment.folder / f"{stem}-rate-{rate:g}-{seconds}s"
        if before is not None:
            go_on_from(before, folder)
        steps = steps_of(speed.train.value, seconds, experiment.batch_size)
        say(f"{arm.name}: learning rate {rate:g}, {seconds} s = {steps} steps")
        train(DiffusionStage, experiment.diffusion_config(arm, autoencoder, rate, steps), folder)
        return folder

    tried = {rate: run(rate, shortest, None) for rate in experiment.learning_rates}
    trials = [{"learning_rate": rate, "validation_loss": loss_of(folder)} for rate, folder in tried.items()]
    best = min(trials, key=lambda trial: trial["validation_loss"])["learning_rate"]
    runs = {shortest: tried[best]}
    for seconds in experiment.budgets:
        if seconds not in runs:
            runs[seconds] = run(best, seconds, runs[max(runs)])
    return trials, runs


def go_on_from(before: Path, folder: Path) -> None:
    """Give a run that is not begun the last checkpoint of a shorter one, whole or not at all."""
    target, partial = folder / "checkpoints", folder / "checkpoints.partial"
    if not target.exists():
        shutil.rmtree(partial, ignore_errors=True)
        shutil.copytree(before / "checkpoints", partial, symlinks=True)
        partial.rename(target)


def measures(folder: Path, beginning: str) -> list[float]:
    """The last values that a run logged of all measures whose names begin so."""
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    last = {name: value for line in lines for name, value in line.items() if name.startswith(beginning)}
    return list(last.values())


def loss_of(folder: Path) -> float:
    """The validation loss of a run, the mean over its timesteps."""
    losses = measures(folder, "validation_loss")
    return sum(losses) / len(losses)


def outcome(experiment: Experiment, arm: Arm, pictures: Pictures, speed: Throughput, device: str) -> Outcome:
    """Train an arm as far as it is not trained, draw from it at every budget."""
    autoencoder = first_stage(experiment, arm, speed)
    trials, runs = second_stage(experiment, arm, autoencoder, speed)
    asked = pictures.spread(experiment.count)
    captions = [asked.index.caption(asked.caption_numbers(number)[0]) for number in range(len(asked))]
    requests = [experiment.request(captions[seed % len(captions)], seed) for seed in range(experiment.count)]
    points = []
    for seconds in experiment.budgets:
        engine = LocalEngine(runs[seconds] / "model", device)
        files = draw_in_batches(engine, requests, experiment.batch_size, f"{arm.name} after {seconds} s")
        steps = steps_of(speed.train.value, seconds, experiment.batch_size)
        points.append(
            Point(
                seconds=seconds,
                steps=steps,
                images=steps * experiment.batch_size,
                features=embed_files(files, experiment.resolution),
            )
        )
    best = min(trials, key=lambda trial: trial["validation_loss"])["learning_rate"]
    psnr = None if isinstance(autoencoder, str) else measures(autoencoder.parent, "held_out_psnr_db")[-1]
    model, side = engine.model, experiment.resolution // arm.f
    return Outcome(
        latents=f"{model.autoencoder.latent_channels}x{side}x{side}",
        denoiser_parameters=sum(p.numel() for p in model.denoiser.unet.parameters()),
        psnr_db=psnr,
        trials=trials,
        learning_rate=best,
        points=points,
    )


def main(args: Namespace) -> int:
    """Run the command; `args` has what `Experiment.of` reads, device, rounds, output, json and dry_run."""
    experiment = Experiment.of(args)
    pictures, _, _ = load_pictures(experiment.pictures)
    speeds = throughputs(experiment, args.rounds)
    told = plan(experiment, speeds, len(pictures))
    if args.dry_run:
        print("\n".join(told))
        return 0
    say("\n".join(told))
    outcomes = {}
    for number, arm in enumerate(experiment.arms, 1):
        say(f"{arm.name}, arm {number} of {len(experiment.arms)}")
        outcomes[arm.name] = outcome(experiment, arm, pictures, speeds[arm.name], args.device)
    say("measuring distances")
    write_report(experiment, speeds, outcomes, embed_pictures(pictures), args)
    return 0
