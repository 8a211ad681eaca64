"""`train teach`: its options, and where what is learned goes. The standard library alone."""

import argparse
from pathlib import Path

STARTER = Path(__file__).resolve().parents[2] / "checkpoints" / "starter"
TEACH = "Teach a model a thing from 1 to 20 pictures of it: a LoRA that prompts can name."


def add_teach_options(command: argparse.ArgumentParser) -> None:
    """The options of `train teach`."""
    command.add_argument("name", metavar="NAME", help="what prompts will call the thing")
    command.add_argument("pictures", type=Path, nargs="+", metavar="PICTURE")
    command.add_argument(
        "--model", type=Path, default=STARTER, metavar="DIR", help="(default: checkpoints/starter)"
    )
    command.add_argument("--minutes", type=float, default=5.0, metavar="N", help="in all (default: 5)")
    command.add_argument(
        "--set", action="append", default=[], metavar="section.key=value", help="change a value; repeatable"
    )
    command.add_argument(
        "--loras", type=Path, metavar="DIR", help="where it goes (default: loras/ beside the pictures)"
    )
    command.add_argument("--run", type=Path, metavar="DIR", help="the run folder to make or go on with")


def teach(args: argparse.Namespace) -> int:
    """Teach the thing; its LoRA lies with those that prompts may name."""
    from app.settings import Settings
    from training.teach import main

    args.loras = args.loras or Settings.from_environment().prompt_files.loras.folder
    return main(args)
