"""The command line: which commands and options there are, and which function carries each out.

The standard library alone, so that `--help` and a wrong word are answered at once and before any set-up.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from app.commands.generate_options import add_generate
from app.commands.options import (
    BACKEND_JOBS,
    STARTER,
    Parser,
    add_command,
    add_model,
    add_precision,
    add_vae,
    main_of,
    port,
    positive,
)
from app.commands.training_options import add_benchmark, add_evaluate, add_train

EPILOG = """without a command, `ui` is meant: python launch.py, python launch.py --port 8000

examples:
  python launch.py generate "a red apple" --seed 7
  python launch.py train autoencoder --config tiny-autoencoder --set data.path=my-pictures
  python launch.py test"""


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
    add_generate(commands)
    _add_data(commands)
    add_train(commands)
    add_evaluate(commands)
    add_benchmark(commands)
    _add_export(commands)
    _add_doctor(commands)
    _add_test(commands)
    return parser


def _add_ui(commands: Any) -> None:
    command = add_command(commands, "ui", main_of("app.server"), "Open the page in the browser.")
    command.set_defaults(check=_check_ui)
    command.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    command.add_argument("--port", type=port, default=7860, help="port to listen on (default: %(default)s)")
    command.add_argument("--share", action="store_true", help="a public link; needs --auth-file")
    command.add_argument("--auth-file", type=Path, metavar="FILE", help="who may log in; see `auth add`")
    command.add_argument(
        "--allow-host", action="append", default=[], metavar="NAME", help="a name this page is reached by"
    )
    add_model(command, fetches=True)
    add_vae(command)
    add_precision(command)
    command.add_argument(
        "--backend", metavar="URL", help="draw on that server, which speaks OpenAI's images API"
    )
    command.add_argument(
        "--backend-jobs",
        type=positive,
        default=BACKEND_JOBS,
        metavar="N",
        help="jobs of this page that are under way there at a time (default: %(default)s)",
    )
    command.add_argument("--no-browser", action="store_true", help="do not open a browser")


def _add_auth(commands: Any) -> None:
    auth = add_command(commands, "auth", None, "Say who may log in.").add_subparsers(
        metavar="add", required=True
    )
    add = add_command(auth, "add", _auth_add, "Add a person, or give one a new password.")
    add.add_argument("user", metavar="USER")
    add.add_argument("--auth-file", type=Path, required=True, metavar="FILE", help="made where it is missing")


def _add_data(commands: Any) -> None:
    data = add_command(commands, "data", None, "Build or check training pictures.").add_subparsers(
        metavar="starter|check", required=True
    )
    starter = add_command(data, "starter", _data_starter, "Build the starter dataset.")
    starter.add_argument("--output", type=Path, required=True, metavar="DIR")
    check = add_command(data, "check", _data_check, "Say what will be used, and what skipped and why.")
    check.add_argument("path", metavar="DIR", help="a folder, or the path or URL of tar shards")


def _add_export(commands: Any) -> None:
    command = add_command(
        commands, "export", main_of("app.commands.export"), "Write a model as a single file, or as a folder."
    )
    command.add_argument("model", type=Path, metavar="MODEL", help="a model folder, a run, or a single file")
    add_vae(command)
    command.add_argument(
        "--output",
        type=Path,
        required=True,
        metavar="FILE|DIR",
        help="a file that ends in .safetensors, which other programs open, or a model folder; not there yet",
    )


def _add_doctor(commands: Any) -> None:
    command = add_command(
        commands, "doctor", _doctor, "Say what is installed, what runs on what, what fits better."
    )
    command.add_argument("--json", action="store_true", help="print one JSON object")
    command.add_argument(
        "--prepare", action="store_true", help="first convert the model for OpenVINO and measure both engines"
    )
    command.add_argument(
        "--model", type=Path, default=STARTER, metavar="DIR", help="(default: checkpoints/starter)"
    )


def _add_test(commands: Any) -> Parser:
    command = add_command(commands, "test", _test, "Run the tests; any other words are pytest's.")
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


def _check_ui(args: argparse.Namespace) -> None:
    from app.server import check

    check(args)


def _auth_add(args: argparse.Namespace) -> int:
    from app.security import add_user

    add_user(args.user, args.auth_file)
    return 0


def _data_starter(args: argparse.Namespace) -> int:
    from training.data.starter import main

    return main(args.output)


def _data_check(args: argparse.Namespace) -> int:
    from training.data.check import main

    return main(args.path)


def _doctor(args: argparse.Namespace) -> int:
    from app.doctor import main

    return main(args.model, as_json=args.json, prepare=args.prepare)


def _test(args: argparse.Namespace) -> int:
    from app.commands.test import main

    return main(args.pytest, exhaustive=args.exhaustive)
