"""The options of training and of measuring what came of it. The standard library alone."""

from pathlib import Path
from typing import Any

from app.commands.options import (
    STARTER,
    Parser,
    add_command,
    add_model,
    list_of,
    main_of,
    number,
    positive,
    whole,
)
from app.commands.teach import TEACH, add_teach_options, teach

# What `benchmark inference` draws and on what: the keys of tables in evaluation/, which import torch.
CASES = ["starter-b1", "starter-b4", "unet60m", "sd15-512"]
ENGINES = ["torch", "torch-bf16", "openvino"]


def add_train(commands: Any) -> None:
    """`train` and its stages."""
    stages = add_command(
        commands, "train", None, "Train one of the two stages, a student of both, or teach a model a thing."
    ).add_subparsers(metavar="autoencoder|diffusion|distill|teach", required=True)
    add_teach_options(add_command(stages, "teach", teach, TEACH))
    for name, text in (
        ("autoencoder", "Train the autoencoder stage."),
        ("diffusion", "Train the diffusion stage."),
        ("distill", "Train a student that draws in few steps what its teacher draws in many."),
    ):
        stage = add_command(stages, name, main_of(f"training.{name}"), text)
        stage.add_argument("--config", required=True, metavar="PRESET|FILE.toml")
        stage.add_argument(
            "--set",
            action="append",
            default=[],
            metavar="section.key=value",
            help="change a value; repeatable",
        )
        stage.add_argument("--run", type=Path, metavar="DIR", help="the run folder to make or go on with")
        stage.add_argument("--dry-run", action="store_true", help="check everything, train nothing")


def add_evaluate(commands: Any) -> None:
    """`evaluate` and what it measures."""
    stages = add_command(commands, "evaluate", None, "Measure a model on held-out pictures.").add_subparsers(
        metavar="autoencoder|diffusion|frontier", required=True
    )
    kept, shown = "How much of a picture its latent keeps.", "How often a drawing shows what was asked."
    autoencoder = add_command(stages, "autoencoder", main_of("evaluation.autoencoder"), kept)
    diffusion = add_command(stages, "diffusion", main_of("evaluation.diffusion"), shown)
    text = "What more compute buys, over samplers and steps or (--first-stages) over the first stage."
    frontier = add_command(stages, "frontier", main_of("evaluation.frontier"), text)
    for stage in (autoencoder, diffusion, frontier):
        add_model(stage)
        stage.add_argument("--data", type=Path, required=True, metavar="DIR", help="from `data starter`")
        stage.add_argument("--json", action="store_true", help="print one JSON object")
    for stage in (autoencoder, diffusion):
        stage.add_argument(
            "--features",
            type=Path,
            metavar="FOLDER|FILE",
            help="compare by a CLIP folder or an Inception .safetensors (default: checkpoints/features)",
        )
    autoencoder.add_argument("--resolution", type=positive, default=128, metavar="PIXELS")
    autoencoder.add_argument(
        "--sheet", type=Path, metavar="FILE.png", help="save originals, reconstructions, differences"
    )
    diffusion.add_argument("--count", type=positive, default=300, metavar="N", help="captions of each kind")
    diffusion.add_argument("--seed", type=whole, default=0, metavar="N", help="which captions these are")
    diffusion.add_argument("--rounds", type=positive, default=3, metavar="N", help="seeds a caption")
    diffusion.add_argument("--steps", type=whole, metavar="N")
    diffusion.add_argument("--guidance-scale", type=number, metavar="X")
    diffusion.add_argument("--grid", type=Path, metavar="FILE.png", help="save the first 64 as one picture")
    _add_frontier(frontier)


def _add_frontier(command: Parser) -> None:
    several = "several with commas between them"
    command.add_argument("--samplers", type=list_of(str), metavar="NAMES", help=several)
    command.add_argument("--steps", type=list_of(positive), metavar="N,N", help=several)
    command.add_argument("--count", type=positive, metavar="N", help="pictures drawn at each point")
    command.add_argument("--rounds", type=positive, default=7, metavar="N", help="in which times are taken")
    command.add_argument("--seed", type=whole, default=0, metavar="N", help="of captions and trainings")
    command.add_argument("--output", type=Path, metavar="DIR", help="where JSON, table and plot go")
    stages = command.add_argument_group(
        "over the first stage", "trains every arm; --model gives the text encoder alone, --data any pictures"
    )
    stages.add_argument(
        "--first-stages", type=list_of(str), metavar="NAMES", help="pixels,kl-f4,vq-f4,kl-f8,vq-f8,..."
    )
    stages.add_argument(
        "--budgets",
        type=list_of(positive),
        default=[300, 600, 1200],
        metavar="SECONDS",
        help="of stage 2 (default: 300,600,1200)",
    )
    for name, default, text in (
        ("--stage1-seconds", 550, "of each autoencoder"),
        ("--trials", 3, "learning rates tried in each arm"),
        ("--trial-seconds", 100, "of each of them"),
        ("--batch-size", 16, "of trainings, of drawing, and of what is timed"),
        ("--resolution", 64, "pixels of a side"),
    ):
        stages.add_argument(
            name, type=positive, default=default, metavar="N", help=f"{text} (default: {default})"
        )
    stages.add_argument(
        "--size", choices=("tiny", "small"), default="small", help="of the networks (default: small)"
    )
    stages.add_argument("--dry-run", action="store_true", help="time everything, say how long it will take")


def add_benchmark(commands: Any) -> None:
    """`benchmark`, the speed of this machine."""
    kinds = add_command(
        commands, "benchmark", None, "Measure how fast this machine is at it."
    ).add_subparsers(metavar="training|inference", required=True)
    text = "Images a second of stage 2 on one thread, and how many times a plain loop's: some minutes."
    training = add_command(kinds, "training", main_of("evaluation.benchmark_training"), text)
    training.add_argument("--json", action="store_true", help="print one JSON object")
    text = "Every engine against the loop of diffusers' documentation, picture by picture: up to an hour."
    inference = add_command(kinds, "inference", main_of("evaluation.benchmark_inference"), text)
    inference.add_argument(
        "--model", type=Path, default=STARTER, metavar="DIR", help="in the starter's place in its two cases"
    )
    names = f"of {', '.join(CASES)} (default: all)"
    inference.add_argument("--cases", type=list_of(str), default=CASES, metavar="NAMES", help=names)
    inference.add_argument(
        "--engines",
        type=list_of(str),
        metavar="NAMES",
        help=f"of {', '.join(ENGINES)} (default: those that this processor can)",
    )
    inference.add_argument("--threads", type=positive, metavar="N", help="beside 1 (default: all cores)")
    inference.add_argument(
        "--prompts",
        type=positive,
        default=32,
        metavar="N",
        help="in each case, at most (default: %(default)s)",
    )
    inference.add_argument("--profile", action="store_true", help="operators by time, where much is lost")
    inference.add_argument("--report", type=Path, metavar="FILE.md", help="write the tables there, too")
    inference.add_argument("--json", action="store_true", help="print one JSON object")
