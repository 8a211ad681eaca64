"""What the command lines of all commands are made of. The standard library alone."""

import argparse
import importlib
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

ROOT = Path(__file__).resolve().parents[2]
BACKEND_JOBS = 4  # of one page, under way on the server that draws for it
STARTER = ROOT / "checkpoints" / "starter"
DTYPES = ("float32", "bfloat16", "float16")
Action = Callable[[argparse.Namespace], int]


class Parser(argparse.ArgumentParser):
    """argparse with no abbreviations, and one sentence where it would print the whole usage."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(allow_abbrev=False, **settings)

    def error(self, message: str) -> NoReturn:
        """Say what is wrong and end with exit code 2."""
        self.exit(2, f"{self.prog}: {message}; see `python {self.prog} --help`\n")


def add_command(commands: Any, name: str, action: Action | None, text: str) -> Parser:
    """A command, and the function that carries it out; None for one that has commands of its own."""
    command: Parser = commands.add_parser(name, help=text, description=text)
    command.add_argument(
        "--no-setup", action="store_true", default=argparse.SUPPRESS, help="do not install packages"
    )
    if action is not None:
        command.set_defaults(action=action)
    return command


def add_model(command: Parser, fetches: bool = False) -> None:
    """Which model draws, and on what; one that `fetches` takes the id of a hub's model too."""
    hint = ", or a hub's id, ORG/NAME, fetched once" if fetches else ""
    command.add_argument(
        "--model",
        type=Path,
        default=STARTER,
        metavar="DIR",
        help=f"a model folder, or one file of safetensors{hint} (default: checkpoints/starter)",
    )
    command.add_argument(
        "--device", type=device, default="auto", help="auto, cpu, cuda, cuda:N or mps (default: auto)"
    )
    command.add_argument(
        "--engine",
        choices=("auto", "torch", "openvino"),
        default="auto",
        help="what runs the networks; auto: the faster one, once `doctor --prepare` or the page measured it",
    )


def add_vae(command: Parser) -> None:
    """What decodes, where that is not the model's own."""
    command.add_argument(
        "--vae", type=Path, metavar="FILE", help="an autoencoder in the place of the model's, in safetensors"
    )


def add_precision(command: Parser) -> None:
    """How torch computes the denoiser."""
    command.add_argument(
        "--dtype", choices=DTYPES, default="float32", help="of the denoiser on torch (default: float32)"
    )
    command.add_argument(
        "--compile", action="store_true", help="torch.compile the denoiser: slow at first, faster on a GPU"
    )


def engine_options(args: Any) -> dict[str, Any]:
    """LocalEngine's options of a command with `add_model` and `add_precision`, or of whatever has these."""
    import torch

    return {"dtype": getattr(torch, args.dtype), "runner": args.engine, "compiled": args.compile}


def main_of(module: str) -> Action:
    """The function `main` of a module, which is imported when it is called and not before."""

    def action(args: argparse.Namespace) -> int:
        exit_code: int = importlib.import_module(module).main(args)
        return exit_code

    return action


def whole(text: str) -> int:
    """A whole number."""
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number") from None


def positive(text: str) -> int:
    """A whole number above 0."""
    number = whole(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{number} is not above 0")
    return number


def list_of(kind: Callable[[str], Any]) -> Callable[[str], list[Any]]:
    """A type of values with commas between them, one at least."""

    def read(text: str) -> list[Any]:
        words = [word.strip() for word in text.split(",") if word.strip()]
        if not words:
            raise argparse.ArgumentTypeError("there is nothing between the commas")
        return [kind(word) for word in words]

    return read


def number(text: str) -> float:
    """Any number."""
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number") from None


def port(text: str) -> int:
    """A port, 0 for any free one."""
    port = whole(text)
    if not 0 <= port <= 65535:
        raise argparse.ArgumentTypeError(f"{port} is no port; ports go from 0 (any free one) to 65535")
    return port


def device(text: str) -> str:
    """A device, as torch names it, or auto."""
    if re.fullmatch(r"auto|cpu|mps|cuda(:\d{1,3})?", text) is None:
        raise argparse.ArgumentTypeError(f"{text!r} is no device; there is auto, cpu, cuda, cuda:N and mps")
    return text
