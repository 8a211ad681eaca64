"""`launch.py generate`: pictures to files, one path a picture, without the page."""

import argparse
import dataclasses
import json
import os
import re
import sys
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from app.commands.options import engine_options
from app.commands.pictures import read_parts
from app.garbage import no_search
from app.hub import fetched
from app.log import printable
from app.settings import INPUTS, Settings, check_writable
from models.defaults import read_defaults
from models.errors import RequestError
from models.folder_check import check_model_folder
from models.single_file.checkpoint import read_vae
from pipelines.prompt.expand import expand
from pipelines.request import GenerationRequest
from pipelines.result import GenerationResult, StepEvent

if TYPE_CHECKING:
    from pipelines.inputs import InputStore
    from pipelines.local_engine import LocalEngine

MAX_NAME_CHARACTERS = 48
OPTIONS = (
    "prompt",
    "negative_prompt",
    "seed",
    "steps",
    "sampler",
    "schedule",
    "guidance_scale",
    "guidance_start",
    "guidance_end",
    "width",
    "height",
    "count",
    "batch_size",
    "noise",
    "instant",
    "styles",
    "tiling",
    "variation_seed",
    "variation_strength",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """A request with its seed, the file of each of its pictures, and which of them are still to be drawn."""

    request: GenerationRequest
    paths: tuple[Path, ...]
    wanted: tuple[int, ...]


def plan(args: argparse.Namespace) -> list[Order]:
    """Everything that the command line asks for, checked; RequestError or ModelError when any of it is wrong.

    Imports no torch and writes nothing but a model that has to be fetched.
    """
    args.model = fetched(args.model)
    check_model_folder(args.model)
    if args.vae is not None:
        read_vae(args.vae, 1.0)
    defaults = read_defaults(args.model)
    folder = args.output_dir = args.output_dir or Settings.from_environment().outputs
    check_writable(folder)
    options = {name: getattr(args, name) for name in OPTIONS}
    parts, args.inputs = read_parts(args, defaults)
    options |= parts
    process, processes = _place()
    if args.prompts_file is None:
        if processes > 1:
            raise RequestError(
                f"{processes} processes were started for one prompt; give them a --prompts-file to share out."
            )
        return [_single(GenerationRequest.from_options(options, defaults), folder)]
    orders = []
    for place, (number, line_options) in enumerate(_read_prompts(args.prompts_file)):
        try:
            request = GenerationRequest.from_options({**options, **line_options}, defaults)
        except RequestError as error:
            raise RequestError(f"{args.prompts_file}, line {number}: {error}") from error
        # Shared out by line and not by what is left, which the others change while this is looked at.
        if place % processes == process:
            orders.append(_numbered(request, folder, number))
    return orders


def _place() -> tuple[int, int]:
    """Which of how many processes this is, by the variables that `accelerate launch` and torchrun set."""
    try:
        process, processes = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
    except ValueError:
        process = processes = -1
    if not 0 <= process < processes:
        raise RequestError(
            f"RANK={os.environ.get('RANK')} and WORLD_SIZE={os.environ.get('WORLD_SIZE')} name no process of "
            "several; start them with `accelerate launch`, or unset both."
        )
    return process, processes


def draw(args: argparse.Namespace, orders: list[Order]) -> int:
    """Draw what `plan` planned; prints the path, or with --json the facts, of each picture once saved."""
    skipped = sum(len(order.paths) - len(order.wanted) for order in orders)
    if skipped:
        print(f"Skipped {skipped} pictures that are there already.", file=sys.stderr)
    orders = [order for order in orders if order.wanted]
    if not orders:
        return 0
    from pipelines.inputs import InputStore

    inputs = InputStore(args.output_dir / INPUTS)
    for data in args.inputs:
        inputs.add(data)
    engine = _load_engine(args, inputs)
    for order in orders:
        if reason := engine.why_not(order.request):
            raise RequestError(reason)
    from pipelines.png import save_png

    wildcards = Settings.from_environment().prompt_files.wildcards()
    for name in dict.fromkeys(name for order in orders for name in wildcards.unknown(order.request.prompt)):
        print(f"There is no {wildcards.file(name)}, so __{name}__ is read as words.", file=sys.stderr)
    for prompt in dict.fromkeys(order.request.prompt for order in orders):
        for hint in _hints(args.model, prompt):
            print(f"{printable(prompt)}: {hint}", file=sys.stderr)
    notes: set[str] = set()  # each said once
    for order in orders:
        # One batch between two savings: Ctrl+C loses no more than this.
        for portion in _portions(order.wanted, engine.batch_images(order.request)):
            first = order.request.for_image(portion[0])
            result = _finish(engine.generate(dataclasses.replace(first, count=len(portion))))
            if result.note and result.note not in notes:
                notes.add(result.note)
                print(result.note, file=sys.stderr)
            for place, image in enumerate(result.images):
                path, request = order.paths[portion[place]], result.pictures[place]
                save_png(
                    image,
                    path,
                    request,
                    model_name=result.model_name,
                    model_id=result.model_id,
                    extra=result.drawn_by,
                )
                facts = {
                    "path": str(path),
                    "seed": request.seed,
                    "request": request.to_dict(),
                    "model": result.model_name,
                    "model_id": result.model_id,
                    "engine": result.engine,
                    "note": result.note,
                    "seconds": round(result.seconds / len(result.images), 3),
                }
                print(json.dumps(facts) if args.json else path, flush=True)
    return 0


def _hints(model: Path, prompt: str) -> list[str]:
    """What is said of words that the model does not know; nothing of plain English ones."""
    if prompt.isascii():
        return []
    from app import chinese, text
    from app.counter import word_notes
    from pipelines.prompt.chunks import Tokens
    from pipelines.prompt.unknown import unknown_words

    tokens, read = Tokens.from_folder(model), chinese.read(model, prompt)
    notes = word_notes(unknown_words(prompt, tokens, steps=1) if tokens is not None else [], read)
    return notes if read is None else [*notes, f"{text.READS_AS} {read.caption}"]


def _load_engine(args: argparse.Namespace, inputs: "InputStore") -> "LocalEngine":
    with no_search(stays=True):
        from pipelines.device import choose_device
        from pipelines.local_engine import LocalEngine

        settings, device = Settings.from_environment(), args.device
        if device == "auto" and "LOCAL_RANK" in os.environ and choose_device().type == "cuda":
            device = f"cuda:{os.environ['LOCAL_RANK']}"  # one of several processes on this machine
        return LocalEngine(
            args.model,
            device,
            files=settings.prompt_files,
            inputs=inputs,
            controlnets=settings.controlnets,
            vae=args.vae,
            **engine_options(args),
        )


def _finish(events: Iterator[StepEvent | GenerationResult]) -> GenerationResult:
    """Run a generation to its end, with a progress line where a person watches."""
    watched = sys.stderr.isatty()
    for event in events:
        if isinstance(event, GenerationResult):
            if watched:
                print("\r\033[K", end="", file=sys.stderr, flush=True)
            return event
        if watched:
            print(f"\rstep {event.step} of {event.total}", end="", file=sys.stderr, flush=True)
    raise RuntimeError("the engine ended without a result")


def _portions(wanted: Iterable[int], size: int) -> Iterator[list[int]]:
    """Runs of neighbouring picture indexes, at most `size` (at least one) long."""
    portion: list[int] = []
    for index in wanted:
        if portion and (index != portion[-1] + 1 or len(portion) >= size):
            yield portion
            portion = []
        portion.append(index)
    if portion:
        yield portion


def _read_prompts(file: Path) -> list[tuple[int, dict[str, Any]]]:
    """Line numbers, from 1, with the options that each line gives; empty lines count but ask for nothing."""
    if file.suffix.lower() not in (".txt", ".jsonl"):
        raise RequestError(f"{file} must end in .txt (one prompt a line) or .jsonl (one request a line).")
    try:
        text = file.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise RequestError(f"The prompts file {file} cannot be read: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise RequestError(f"The prompts file {file} is not UTF-8 text; save it as UTF-8.") from error
    lines = [(number, line.strip()) for number, line in enumerate(text.split("\n"), start=1) if line.strip()]
    if not lines:
        raise RequestError(f"The prompts file {file} holds no prompts.")
    if file.suffix.lower() == ".txt":
        return [(number, {"prompt": line}) for number, line in lines]
    requests = []
    for number, line in lines:
        try:
            options = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise RequestError(f"{file}, line {number}: this is not valid JSON.") from error
        if not isinstance(options, dict):
            raise RequestError(f'{file}, line {number}: must be a JSON object such as {{"prompt": "a cat"}}.')
        requests.append((number, options))
    return requests


def _single(request: GenerationRequest, folder: Path) -> Order:
    """The order of a prompt on the command line: files named by words and seed, never one that is there."""
    request = request.resolve()
    expand(request, Settings.from_environment().prompt_files)  # a style may not be there
    paths = []
    for index in range(request.count):
        stem = f"{_slug(request.prompt)}-{request.for_image(index).counted_seed}"
        path, copy = folder / f"{stem}.png", 1
        while path.exists():
            copy += 1
            path = folder / f"{stem}-{copy}.png"
        paths.append(path)
    return Order(request=request, paths=tuple(paths), wanted=tuple(range(request.count)))


def _numbered(request: GenerationRequest, folder: Path, number: int) -> Order:
    """The order of a line of a file: files named by its number and words, so that a second run goes on."""
    stem = f"{number:04d}-{_slug(request.prompt)}"
    ends = [""] if request.count == 1 else [f"-{index + 1}" for index in range(request.count)]
    paths = tuple(folder / f"{stem}{end}.png" for end in ends)
    wanted = tuple(index for index, path in enumerate(paths) if not path.exists())
    return Order(request=request.resolve(), paths=paths, wanted=wanted)


def _slug(prompt: str) -> str:
    words = re.sub(r"[\W_]+", "-", unicodedata.normalize("NFKC", prompt).lower())
    return words[:MAX_NAME_CHARACTERS].strip("-") or "picture"
