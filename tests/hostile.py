"""Opens files in every way that a person could, and tells what each said and what ran meanwhile.

`python -m tests.hostile MODEL WORK < FILES` prints a JSON list of [file, way, sentence or "opened"] for each
line of FILES, then a list of the audit events that tell of code: a process of its own, for hooks stay.
"""

import json
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from app.dataset import look_into
from app.model_list import ModelList, model_folders
from models.errors import StudioError
from models.folder import load_model
from pipelines.engine import LocalEngine
from pipelines.inputs import read_mask, read_picture
from pipelines.metadata.settings import read_settings
from pipelines.prompt.expand import PromptFiles
from pipelines.request import GenerationRequest
from training.data.archives import unpack

EVENTS = (
    "exec", "compile", "import", "marshal.loads", "pickle.find_class", "subprocess.Popen", "os.system",
    "os.exec", "os.fork", "os.forkpty", "os.posix_spawn", "os.spawn", "pty.spawn", "socket.connect",
    "socket.getaddrinfo", "ctypes.dlopen", "urllib.Request", "webbrowser.open",
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
            folder = shutil.copytree(model, work / "model", dirs_exist_ok=False)
            try:
                shutil.copy(file, folder / place)
                ModelList([]).add(folder)
                return load_model(folder)
            finally:
                shutil.rmtree(folder)

        yield f"{place} of a model", in_its_place
    for name in (f"{file.stem}.safetensors", file.name):

        def as_lora(name: str = name) -> Any:
            (work / "loras").mkdir()
            try:
                shutil.copy(file, work / "loras" / name)
                reason = engine.why_not(a_request(f"a cat <lora:{Path(name).stem}>"))
                if reason:
                    raise StudioError(reason)
            finally:
                shutil.rmtree(work / "loras")

        yield f"the LoRA {name}", as_lora
    yield "a picture to start from", lambda: read_picture(file)
    yield "a mask", lambda: read_mask(file)
    yield "a picture with settings", lambda: read_settings(file)
    for name in ("dataset.zip", "dataset.tar.gz", "dataset.tar", "dataset/1.png", "dataset/metadata.jsonl"):

        def as_dataset(name: str = name) -> Any:
            given = work / name
            given.parent.mkdir(exist_ok=True)
            try:
                shutil.copy(file, given)
                if given.suffix in (".zip", ".gz"):
                    unpack(given, work / "unpacked")
                return look_into(given if given.parent == work else given.parent)
            finally:
                shutil.rmtree(work / "unpacked", ignore_errors=True)
                shutil.rmtree(work / "dataset", ignore_errors=True)
                given.unlink(missing_ok=True)

        yield name, as_dataset


def a_request(prompt: str) -> GenerationRequest:
    return GenerationRequest(
        prompt=prompt, width=32, height=32, steps=1, guidance_scale=1.0, sampler="Euler", seed=1
    )


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
    for warm in (files[0], next(model.rglob("*.safetensors")), next(model.rglob("config.json"))):
        for _, open_it in ways(warm, model, engine, work):
            said(open_it)
    answers, events, armed = [], [], False

    def watch(event: str, arguments: tuple[Any, ...]) -> None:
        if armed and event.startswith(EVENTS):
            events.append(f"{event} {arguments!r:.200}")

    sys.addaudithook(watch)
    for file in files:
        for way, open_it in ways(file, model, engine, work):
            armed = True
            answer = said(open_it)
            armed = False
            answers.append([str(file), way, answer])
    print(json.dumps(answers))
    print(json.dumps(events))


if __name__ == "__main__":
    main()
