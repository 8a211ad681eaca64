"""The options of the command that draws. The standard library alone."""

import argparse
from pathlib import Path
from typing import Any

from app.commands.options import (
    Parser,
    add_command,
    add_model,
    add_precision,
    add_vae,
    list_of,
    number,
    whole,
)


def add_generate(commands: Any) -> None:
    """`generate`, which draws pictures."""
    command = add_command(commands, "generate", _generate, "Draw pictures; prints one path per picture.")
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
    command.add_argument("--seed", type=whole, metavar="N", help="same seed, same picture; -1 = random")
    command.add_argument("--steps", type=whole, metavar="N")
    command.add_argument("--sampler", metavar="NAME")
    command.add_argument("--schedule", metavar="NAME")
    command.add_argument("--guidance-scale", type=number, metavar="X", help="how closely to follow it")
    command.add_argument("--guidance-start", type=number, metavar="X", help="share of the steps, 0 to 1")
    command.add_argument("--guidance-end", type=number, metavar="X", help="outside of it no guidance")
    command.add_argument("--width", type=whole, metavar="PIXELS")
    command.add_argument("--height", type=whole, metavar="PIXELS")
    command.add_argument("--count", type=whole, metavar="N", help="pictures per prompt, seeds counting up")
    command.add_argument("--batch-size", type=whole, metavar="N", help="drawn at once (default: by memory)")
    command.add_argument("--noise", metavar="NAME", help="cpu, or nv: what NVIDIA GPUs draw (default: cpu)")
    command.add_argument(
        "--instant", action="store_true", default=None, help="in few steps, by the model's student"
    )
    _add_pictures(command)
    add_model(command, fetches=True)
    add_vae(command)
    add_precision(command)
    command.add_argument("--output-dir", type=Path, metavar="DIR", help="(default: outputs)")
    command.add_argument("--json", action="store_true", help="print one JSON object per picture")


def _add_pictures(command: Parser) -> None:
    image = command.add_argument_group("from a picture")
    image.add_argument("--image", type=Path, metavar="FILE", help="the picture to start from")
    image.add_argument("--strength", type=number, metavar="X", help="0 keeps it, 1 nothing (default: 0.75)")
    image.add_argument("--mask", type=Path, metavar="FILE", help="white is painted anew, black stays")
    image.add_argument("--mask-blur", type=whole, metavar="PIXELS", help="soft edge (default: 4)")
    image.add_argument(
        "--only-masked", action="store_true", default=None, help="draw the masked part alone, at full size"
    )
    image.add_argument("--mask-padding", type=whole, metavar="PIXELS", help="around it (default: 32)")
    image.add_argument("--fill", metavar="NAME", help="original, fill, latent noise or latent nothing")
    image.add_argument(
        "--extend", type=list_of(whole), metavar="L,T,R,B", help="pixels to add on each side, and to paint"
    )
    control = command.add_argument_group("guided by a picture")
    control.add_argument(
        "--control", metavar="NAME", help="a ControlNet in controlnets/ of the outputs folder"
    )
    control.add_argument("--control-image", type=Path, metavar="FILE", help="the picture that it is shown")
    control.add_argument(
        "--control-preprocessor", metavar="NAME", help="none, or canny: its edges (default: none)"
    )
    control.add_argument("--control-scale", type=number, metavar="X", help="0 to 2 (default: 1)")
    control.add_argument("--control-start", type=number, metavar="X", help="share of the steps, 0 to 1")
    control.add_argument("--control-end", type=number, metavar="X", help="outside of it the net does nothing")
    more = command.add_argument_group("larger, seamless, varied")
    more.add_argument("--second-pass", type=number, metavar="X", help="draw again, X times as large")
    more.add_argument("--second-pass-strength", type=number, metavar="X", help="(default: 0.6)")
    more.add_argument("--second-pass-steps", type=whole, metavar="N", help="(default: as in the first)")
    more.add_argument("--upscaler", metavar="NAME", help="between the two: Lanczos or Latent")
    more.add_argument("--tiling", action="store_true", default=None, help="opposite edges fit together")
    more.add_argument("--variation-seed", type=whole, metavar="N", help="whose noise is mixed in")
    more.add_argument("--variation-strength", type=number, metavar="X", help="how much of it, 0 to 1")


def _check_generate(args: argparse.Namespace) -> None:
    from app.commands.generate import plan

    args.orders = plan(args)


def _generate(args: argparse.Namespace) -> int:
    from app.commands.generate import draw

    return draw(args, args.orders)
