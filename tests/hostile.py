"""Opens files in every way that a person could, and tells what each said and what ran meanwhile.

`python -m tests.hostile MODEL WORK < FILES` prints a JSON list of [file, way, sentence or "opened"] for each
line of FILES, then a list of the audit events that tell of code: a process of its own, for hooks stay.
"""

import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any
from zipfile import ZipFile

from app.dataset import look_into
from app.model_list import ModelList, model_folders
from models.errors import StudioError
from models.folder import load_model
from models.folder_check import check_model_folder
from pipelines.inputs import read_mask, read_picture
from pipelines.local_engine import LocalEngine
from pipelines.metadata.settings import read_settings
from pipelines.prompt.expand import PromptFiles
from pipelines.request import GenerationRequest
from training.data.archives import unpack

EVENTS = (
    "exec", "compile", "pickle.find_class", "subprocess.Popen", "os.system", "os.exec", "os.fork",
    "os.forkpty", "os.posix_spawn", "os.spawn", "pty.spawn", "socket.connect", "socket.getaddrinfo",
    "ctypes.dlopen", "urllib.Request", "webbrowser.open",
)  # fmt: skip
PARTS = {  # where a file may stand in the place of a model's own
    ".json": ("model_index.json", "unet/config.json", "text_encoder/config.json", "tokenizer/tokenizer.json",
              "tokenizer/tokenizer_config.json", "scheduler/scheduler_config.json", "preview.json",
              "generation_defaults.json"),
    "": ("unet/diffusion_pytorch_model.safetensors", "text_encoder/model.safetensors", "unet/model.ckpt"),
}  # fmt: skip


def ways(file: Path, model: Path, engine: LocalEngine, work: Path) -> Iterator[tuple[str, Callable[[], Any]]]:
    """What a person may do with a file, by name."""
    yield "load_model", lambda: load_model(file)
    yield "--model", lambda: model_folders(file)
    yield "the page's list of models", lambda: ModelList([]).add(file)
    for place in PARTS.get(file.suffix, ()) + PARTS[""]:

        def in_its_place(place: str = place) -> Any:
            folder = shutil.copytree(model, work / "model", copy_function=os.link)
            try:
                (folder / place).unlink(missing_ok=True)
                shutil.copy(file, folder / place)
                check_model_folder(folder)
                if place.startswith("tokenizer") or file.suffix == ".safetensors":
                    load_model(folder)  # where more is read than was checked
            finally:
                shutil.rmtree(folder)

        yield f"{place} of a model", in_its_place
    for name in (f"{file.stem}.safetensors", file.name):

        def as_lora(name: str = name) -> Any:
            (work / "loras").mkdir()
            try:
                shutil.copy(file, work / "loras" / name)
                if reason := engine.why_not(a_request(f"a cat <lora:{Path(name).stem}>")):
                    raise StudioError(reason)
            finally:
                shutil.rmtree(work / "loras")

        yield f"the LoRA {name}", as_lora
    yield "a picture to start from", lambda: read_picture(file)
    yield "a mask", lambda: read_mask(file)
    yield "a picture with settings", lambda: read_settings(file)
    for name in ("dataset.zip", "dataset.tar.gz"):

        def as_archive(name: str = name) -> Any:
            try:
                shutil.copy(file, work / name)
                unpack(work / name, work / "unpacked")
            finally:
                shutil.rmtree(work / "unpacked", ignore_errors=True)
                (work / name).unlink()

        yield name, as_archive


def all_as_dataset(files: Sequence[Path], work: Path) -> Any:
    """A folder of them all, under their own names and as pictures, captions, metadata and shards."""
    for number, file in enumerate(files):
        place = work / "dataset" / str(number)
        place.mkdir(parents=True)
        for name in (file.name, "picture.png", "picture.txt", "shard.tar"):
            shutil.copy(file, place / name)
        if number % 2:
            shutil.copy(file, place / "metadata.jsonl")
    try:
        return look_into(work / "dataset")
    finally:
        shutil.rmtree(work / "dataset")


def a_request(prompt: str) -> GenerationRequest:
    return GenerationRequest(
        prompt=prompt, width=32, height=32, steps=1, guidance_scale=1.0, sampler="Euler", seed=1
    )


def installed(event: str, arguments: tuple[Any, ...]) -> bool:
    """Whether it is a module of Python or of a package that runs, imported at this late moment."""
    code = getattr(arguments[0], "co_filename", "") if event == "exec" else ""
    return code.startswith((sys.prefix, sys.base_prefix))


def said(open_it: Callable[[], Any]) -> str:
    try:
        open_it()
    except StudioError as error:
        return str(error)
    return "opened"


def main() -> None:
    """Open everything once unwatched, so that what is imported late is there, then watch."""
    model, work = map(Path, sys.argv[1:])
    engine = LocalEngine(model, "cpu", files=PromptFiles(work))
    files = [Path(line.rstrip("\n")) for line in sys.stdin]
    with ZipFile(work / "warm.zip", "w") as packed:
        packed.writestr("a/warm.png", b"")
    safe = [*sorted(model.rglob("*.safetensors"))[:1], model / "model_index.json", work / "warm.zip"]
    answers, events, armed = [], [], False
    for file in safe:
        for _, open_it in ways(file, model, engine, work):
            said(open_it)
    said(lambda: all_as_dataset(safe, work))
    (work / "warm.zip").unlink()

    def watch(event: str, arguments: tuple[Any, ...]) -> None:
        if armed and event.startswith(EVENTS) and not installed(event, arguments):
            events.append(f"{event} {arguments!r:.60}")

    sys.addaudithook(watch)
    for file in files:
        for way, open_it in ways(file, model, engine, work):
            armed = True
            answer = said(open_it)
            armed = False
            answers.append([str(file), way, answer])
    armed = True
    answer = said(lambda: all_as_dataset(files, work))
    armed = False
    print(json.dumps([*answers, ["all", "a dataset", answer]]))
    print(json.dumps(events))


if __name__ == "__main__":
    main()
