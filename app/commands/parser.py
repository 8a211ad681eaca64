"""The command line: which commands and options there are, and which function carries each out.

The standard library alone, so that `--help` and a wrong word are answered at once and before any set-up.
"""

import argparse
import importlib
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from app.commands.teach import TEACH, add_teach_options, teach

ROOT = Path(__file__).resolve().parents[2]
STARTER = ROOT / "checkpoints" / "starter"
Action = Callable[[argparse.Namespace], int]
EPILOG = """without a command, `ui` is meant: python launch.py, python launch.py --port 8000

examples:
  python launch.py generate "a red apple" --seed 7
  python launch.py train autoencoder --config tiny-autoencoder --set data.path=my-pictures
  python launch.py test"""


class Parser(argparse.ArgumentParser):
    """argparse with no abbreviations, and one sentence where it would print the whole usage."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(allow_abbrev=False, **settings)

    def error(self, message: str) -> NoReturn:
        """Say what is wrong and end with exit code 2."""
        self.exit(2, f"{self.prog}: {message}; see `python {self.prog} --help`\n")


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """The options of a command line; ends the process for --help and for words that make no sense.

    Beside them stand `check` and `action`, functions of these options to be called in this order, and
    `requirements`, the file of what the action needs installed, unless `no_setup`.
    """
    words = [word for word in argv if word != "--no-setup"]
    if not words or (words[0].startswith("-") and words[0] not in ("-h", "--help")):
        argv = ["ui", *argv]
    elif words[0] == "test":
        return _parse_test(list(argv))
    return build_parser().parse_args(argv)


def build_parser() -> Parser:
    """The parser of every command."""
    parser = Parser(
        prog="launch.py",
        description="Latent Studio: pictures from words, by a latent diffusion model of your own.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--no-setup", action="store_true", help="do not install packages")
    parser.set_defaults(check=lambda _args: None, requirements="requirements.txt")
    commands = parser.add_subparsers(title="commands", dest="command", metavar="COMMAND", required=True)
    _add_ui(commands)
    _add_auth(commands)
    _add_generate(commands)
    _add_data(commands)
    _add_train(commands)
    _add_evaluate(commands)
    _add_benchmark(commands)
    _add_doctor(commands)
    _add_test(commands)
    return parser


def _add(commands: Any, name: str, action: Action | None, text: str) -> Parser:
    command: Parser = commands.add_parser(name, help=text, description=text)
    command.add_argument(
        "--no-setup", action="store_true", default=argparse.SUPPRESS, help="do not install packages"
    )
    if action is not None:
        command.set_defaults(action=action)
    return command


def _add_model(command: Parser) -> None:
    command.add_argument(
        "--model", type=Path, default=STARTER, metavar="DIR", help="(default: checkpoints/starter)"
    )
    command.add_argument(
        "--device", type=_device, default="auto", help="auto, cpu, cuda, cuda:N or mps (default: auto)"
    )
    command.add_argument("--engine", choices=("auto", "torch"), default="auto", help="what runs the networks")


def _add_ui(commands: Any) -> None:
    command = _add(commands, "ui", _main_of("app.server"), "Open the page in the browser.")
    command.set_defaults(check=_check_ui)
    command.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    command.add_argument("--port", type=_port, default=7860, help="port to listen on (default: %(default)s)")
    command.add_argument("--share", action="store_true", help="a public link; needs --auth-file")
    command.add_argument("--auth-file", type=Path, metavar="FILE", help="who may log in; see `auth add`")
    command.add_argument(
        "--allow-host", action="append", default=[], metavar="NAME", help="a name this page is reached by"
    )
    _add_model(command)
    command.add_argument("--no-browser", action="store_true", help="do not open a browser")


def _add_auth(commands: Any) -> None:
    auth = _add(commands, "auth", None, "Say who may log in.").add_subparsers(metavar="add", required=True)
    add = _add(auth, "add", _auth_add, "Add a person, or give one a new password.")
    add.add_argument("user", metavar="USER")
    add.add_argument("--auth-file", type=Path, required=True, metavar="FILE", help="made where it is missing")


def _add_generate(commands: Any) -> None:
    command = _add(commands, "generate", _generate, "Draw pictures; prints one path per picture.")
    command.set_defaults(check=_check_generate)
    prompts = command.add_mutually_exclusive_group(required=True)
    prompts.add_argument("prompt", nargs="?", metavar="PROMPT", help="what to draw")
    prompts.add_argument(
        "--prompts-file",
        type=Path,
        metavar="FILE",
        help=".txt: one prompt a line; .jsonl: one request a line. Pictures carry the line's number; "
        "those already there are skipped",
    )
    command.add_argument("--negative-prompt", metavar="TEXT", help="what to keep out of the picture")
    command.add_argument(
        "--style",
        action="append",
        dest="styles",
        metavar="NAME",
        help="a style from styles.csv in the outputs folder; may be given more than once",
    )
    command.add_argument("--seed", type=_whole, metavar="N", help="same seed, same picture; -1 = random")
    command.add_argument("--steps", type=_whole, metavar="N")
    command.add_argument("--sampler", metavar="NAME")
    command.add_argument("--schedule", metavar="NAME")
    command.add_argument("--guidance-scale", type=_number, metavar="X", help="how closely to follow it")
    command.add_argument("--width", type=_whole, metavar="PIXELS")
    command.add_argument("--height", type=_whole, metavar="PIXELS")
    command.add_argument("--count", type=_whole, metavar="N", help="pictures per prompt, seeds counting up")
    command.add_argument(
        "--instant", action="store_true", default=None, help="in few steps, by the model's student"
    )
    _add_pictures(command)
    _add_model(command)
    command.add_argument("--output-dir", type=Path, metavar="DIR", help="(default: outputs)")
    command.add_argument("--json", action="store_true", help="print one JSON object per picture")


def _add_pictures(command: Parser) -> None:
    image = command.add_argument_group("from a picture")
    image.add_argument("--image", type=Path, metavar="FILE", help="the picture to start from")
    image.add_argument("--strength", type=_number, metavar="X", help="0 keeps it, 1 nothing (default: 0.75)")
    image.add_argument("--mask", type=Path, metavar="FILE", help="white is painted anew, black stays")
    image.add_argument("--mask-blur", type=_whole, metavar="PIXELS", help="soft edge (default: 4)")
    image.add_argument(
        "--only-masked", action="store_true", default=None, help="draw the masked part alone, at full size"
    )
    image.add_argument("--mask-padding", type=_whole, metavar="PIXELS", help="around it (default: 32)")
    image.add_argument("--fill", metavar="NAME", help="original, fill, latent noise or latent nothing")
    image.add_argument(
        "--extend", type=_list_of(_whole), metavar="L,T,R,B", help="pixels to add on each side, and to paint"
    )
    more = command.add_argument_group("larger, seamless, varied")
    more.add_argument("--second-pass", type=_number, metavar="X", help="draw again, X times as large")
    more.add_argument("--second-pass-strength", type=_number, metavar="X", help="(default: 0.6)")
    more.add_argument("--second-pass-steps", type=_whole, metavar="N", help="(default: as in the first)")
    more.add_argument("--upscaler", metavar="NAME", help="between the two: Lanczos or Latent")
    more.add_argument("--tiling", action="store_true", default=None, help="opposite edges fit together")
    more.add_argument("--variation-seed", type=_whole, metavar="N", help="whose noise is mixed in")
    more.add_argument("--variation-strength", type=_number, metavar="X", help="how much of it, 0 to 1")


def _add_data(commands: Any) -> None:
    data = _add(commands, "data", None, "Build or check training pictures.").add_subparsers(
        metavar="starter|check", required=True
    )
    starter = _add(data, "starter", _data_starter, "Build the starter dataset.")
    starter.add_argument("--output", type=Path, required=True, metavar="DIR")
    check = _add(data, "check", _data_check, "Say what will be used, and what skipped and why.")
    check.add_argument("path", metavar="DIR", help="a folder, or the path or URL of tar shards")


def _add_train(commands: Any) -> None:
    stages = _add(
        commands, "train", None, "Train one of the two stages, a student of both, or teach a model a thing."
    ).add_subparsers(metavar="autoencoder|diffusion|distill|teach", required=True)
    add_teach_options(_add(stages, "teach", teach, TEACH))
    for name, text in (
        ("autoencoder", "Train the autoencoder stage."),
        ("diffusion", "Train the diffusion stage."),
        ("distill", "Train a student that draws in few steps what its teacher draws in many."),
    ):
        stage = _add(stages, name, _main_of(f"training.{name}"), text)
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


def _add_evaluate(commands: Any) -> None:
    stages = _add(commands, "evaluate", None, "Measure a model on held-out pictures.").add_subparsers(
        metavar="autoencoder|diffusion|frontier", required=True
    )
    kept, shown = "How much of a picture its latent keeps.", "How often a drawing shows what was asked."
    autoencoder = _add(stages, "autoencoder", _main_of("evaluation.autoencoder"), kept)
    diffusion = _add(stages, "diffusion", _main_of("evaluation.diffusion"), shown)
    text = "What more compute buys, over samplers and steps or (--first-stages) over the first stage."
    frontier = _add(stages, "frontier", _main_of("evaluation.frontier"), text)
    for stage in (autoencoder, diffusion, frontier):
        _add_model(stage)
        stage.add_argument("--data", type=Path, required=True, metavar="DIR", help="from `data starter`")
        stage.add_argument("--json", action="store_true", help="print one JSON object")
    for stage in (autoencoder, diffusion):
        stage.add_argument(
            "--features",
            type=Path,
            metavar="FOLDER|FILE",
            help="compare by a CLIP folder or an Inception .safetensors (default: checkpoints/features)",
        )
    autoencoder.add_argument("--resolution", type=_positive, default=128, metavar="PIXELS")
    autoencoder.add_argument(
        "--sheet", type=Path, metavar="FILE.png", help="save originals, reconstructions, differences"
    )
    diffusion.add_argument("--count", type=_positive, default=300, metavar="N", help="captions of each kind")
    diffusion.add_argument("--seed", type=_whole, default=0, metavar="N", help="which captions these are")
    diffusion.add_argument("--rounds", type=_positive, default=3, metavar="N", help="seeds a caption")
    diffusion.add_argument("--steps", type=_whole, metavar="N")
    diffusion.add_argument("--guidance-scale", type=_number, metavar="X")
    diffusion.add_argument("--grid", type=Path, metavar="FILE.png", help="save the first 64 as one picture")
    _add_frontier(frontier)


def _add_frontier(command: Parser) -> None:
    several = "several with commas between them"
    command.add_argument("--samplers", type=_list_of(str), metavar="NAMES", help=several)
    command.add_argument("--steps", type=_list_of(_positive), metavar="N,N", help=several)
    command.add_argument("--count", type=_positive, metavar="N", help="pictures drawn at each point")
    command.add_argument("--rounds", type=_positive, default=7, metavar="N", help="in which times are taken")
    command.add_argument("--seed", type=_whole, default=0, metavar="N", help="of captions and trainings")
    command.add_argument("--output", type=Path, metavar="DIR", help="where JSON, table and plot go")
    stages = command.add_argument_group(
        "over the first stage", "trains every arm; --model gives the text encoder alone, --data any pictures"
    )
    stages.add_argument(
        "--first-stages", type=_list_of(str), metavar="NAMES", help="pixels,kl-f4,vq-f4,kl-f8,vq-f8,..."
    )
    stages.add_argument(
        "--budgets",
        type=_list_of(_positive),
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
            name, type=_positive, default=default, metavar="N", help=f"{text} (default: {default})"
        )
    stages.add_argument(
        "--size", choices=("tiny", "small"), default="small", help="of the networks (default: small)"
    )
    stages.add_argument("--dry-run", action="store_true", help="time everything, say how long it will take")


def _add_benchmark(commands: Any) -> None:
    kinds = _add(commands, "benchmark", None, "Measure how fast this machine is at it.").add_subparsers(
        metavar="training", required=True
    )
    text = "Images a second of stage 2 on one thread, and how many times a plain loop's: some minutes."
    training = _add(kinds, "training", _main_of("evaluation.benchmark_training"), text)
    training.add_argument("--json", action="store_true", help="print one JSON object")


def _add_doctor(commands: Any) -> None:
    command = _add(commands, "doctor", _doctor, "Say what is installed, what runs on what, what fits better.")
    command.add_argument("--json", action="store_true", help="print one JSON object")


def _add_test(commands: Any) -> Parser:
    command = _add(commands, "test", _test, "Run the tests; any other words are pytest's.")
    command.add_argument("--exhaustive", action="store_true", help="everything that this machine can run")
    command.set_defaults(requirements="requirements-dev.txt")
    return command


def _parse_test(argv: list[str]) -> argparse.Namespace:
    # Everything that is not ours is pytest's, in its order, which argparse cannot promise.
    ours = ("test", "--exhaustive", "--no-setup", "-h", "--help")
    at = argv.index("test")
    args = build_parser().parse_args([*argv[:at], *(word for word in argv[at:] if word in ours)])
    args.pytest = [word for word in argv[at + 1 :] if word not in ours[1:]]
    return args


def _main_of(module: str) -> Action:
    """The function `main` of a module, which is imported when it is called and not before."""

    def action(args: argparse.Namespace) -> int:
        exit_code: int = importlib.import_module(module).main(args)
        return exit_code

    return action


def _check_ui(args: argparse.Namespace) -> None:
    from app.server import check

    check(args)


def _auth_add(args: argparse.Namespace) -> int:
    from app.security import add_user

    add_user(args.user, args.auth_file)
    return 0


def _check_generate(args: argparse.Namespace) -> None:
    from app.commands.generate import plan

    args.orders = plan(args)


def _generate(args: argparse.Namespace) -> int:
    from app.commands.generate import draw

    return draw(args, args.orders)


def _data_starter(args: argparse.Namespace) -> int:
    from training.data.starter import main

    return main(args.output)


def _data_check(args: argparse.Namespace) -> int:
    from training.data.check import main

    return main(args.path)


def _doctor(args: argparse.Namespace) -> int:
    from app.doctor import main

    return main(as_json=args.json)


def _test(args: argparse.Namespace) -> int:
    from app.commands.test import main

    return main(args.pytest, exhaustive=args.exhaustive)


def _whole(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number") from None


def _positive(text: str) -> int:
    number = _whole(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{number} is not above 0")
    return number


def _list_of(kind: Callable[[str], Any]) -> Callable[[str], list[Any]]:
    """A type of values with commas between them, one at least."""

    def read(text: str) -> list[Any]:
        words = [word.strip() for word in text.split(",") if word.strip()]
        if not words:
            raise argparse.ArgumentTypeError("there is nothing between the commas")
        return [kind(word) for word in words]

    return read


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number") from None


def _port(text: str) -> int:
    port = _whole(text)
    if not 0 <= port <= 65535:
        raise argparse.ArgumentTypeError(f"{port} is no port; ports go from 0 (any free one) to 65535")
    return port


def _device(text: str) -> str:
    if re.fullmatch(r"auto|cpu|mps|cuda(:\d{1,3})?", text) is None:
        raise argparse.ArgumentTypeError(f"{text!r} is no device; there is auto, cpu, cuda, cuda:N and mps")
    return text
