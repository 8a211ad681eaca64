"""`teach`: a thing from 1 to 20 pictures and its name, as a LoRA of a model, within some minutes."""

import tempfile
import time
from argparse import Namespace
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from accelerate import Accelerator
from torch import nn

from models.class_encoder import ConditionEncoder
from models.defaults import read_defaults
from models.errors import ConfigError
from models.folder import model_path
from models.lora import LORA_SUFFIX
from models.weights import LORA_FILE
from models.writing import write_bytes
from pipelines.prompt.lora import TAUGHT_WEIGHT, put_lora
from training.config import DiffusionConfig, load_config
from training.data.taught import captions_of, checked_name, write_taught
from training.diffusion import DiffusionStage
from training.distributed import connect
from training.loop import Trainer
from training.run import Run
from training.runs import runs_folder

PRESET = "teach-diffusion"
VIEWS_FOLDER = "pictures"  # of a run: what it is taught from
WARM_STEPS, TIMED_STEPS = 2, 3
PREVIEW_EVERY_SECONDS = 60
FEWEST_STEPS, MOST_MINUTES = 20, 24 * 60


class TeachStage(DiffusionStage):
    """Stage 2 for adapters alone, written to the run's folder and, by their name, to that of the LoRAs."""

    def __init__(self, config: DiffusionConfig, name: str, loras: Path) -> None:
        super().__init__(config)
        self.file, self.captions = loras / f"{name}{LORA_SUFFIX}", captions_of(name)

    def parts(self, averaged: nn.Module) -> tuple[nn.Module, ConditionEncoder]:
        """The networks with the weight that the tag has at first, so that previews show what it will draw."""
        assert self.adapters is not None
        return self.adapters.merged(averaged, TAUGHT_WEIGHT)

    def export(self, averaged: nn.Module, folder: Path) -> None:
        """Write the adapters, for prompts to name from now on."""
        assert self.adapters is not None
        self.adapters.save(folder, averaged, self.captions)
        write_bytes(self.file, (folder / LORA_FILE).read_bytes())


def fitted(
    stage: TeachStage,
    accelerator: Accelerator,
    seconds: float,
    clock: Callable[[], float] = time.perf_counter,
) -> DiffusionConfig:
    """The stage's configuration with as many steps as fit into so many seconds, with a preview each minute.

    By the time that a few steps and a preview take, which count too; the stage is as before afterwards.
    """
    begin = clock()
    config = stage.config
    before = {name: tensor.clone() for name, tensor in stage.trained.state_dict().items()}
    trainer = Trainer(stage, config, accelerator)
    for step in range(WARM_STEPS):
        float(trainer.step(step)["loss"])
    warm = clock()
    for step in range(TIMED_STEPS):
        float(trainer.step(step)["loss"])  # waits for the device
    step_seconds = (clock() - warm) / TIMED_STEPS
    drawing = clock()
    with tempfile.TemporaryDirectory() as folder:
        stage.sample(trainer.averaged, Path(folder), 0)
    preview_seconds = clock() - drawing
    stage.trained.load_state_dict(before)
    left = seconds - (clock() - begin)
    previews = max(1, round(left / (PREVIEW_EVERY_SECONDS + preview_seconds)))
    steps = max(FEWEST_STEPS, int((left - previews * preview_seconds) / step_seconds))
    every = -(-steps // previews)
    return replace(config, training=replace(config.training, steps=steps, sample_every_steps=every))


def main(args: Namespace) -> int:
    """Run the command; `args` has name, pictures, model, minutes, loras, set and run."""
    began = time.perf_counter()
    name, begin = checked_name(args.name), model_path(args.model)
    if not 0 <= args.minutes <= MOST_MINUTES:
        raise ConfigError(f"--minutes is {args.minutes}; it must be a number from 0 to {MOST_MINUTES}")
    run = args.run or _new_run(name)
    side = read_defaults(begin).width
    if not (run / VIEWS_FOLDER).exists():
        write_taught(args.pictures, name, run / VIEWS_FOLDER, side)
    data = [f"data.path={run / VIEWS_FOLDER}", f"data.resolution={side}", f"init.model={begin}"]
    own = [*data, f"training.name={run.name}", *args.set]
    kept = run / "config.toml"  # of a teaching that was stopped: it goes on as it was meant
    config = load_config(DiffusionConfig, str(kept) if kept.is_file() else PRESET, own)
    accelerator = connect(config.training)
    stage = TeachStage(config, name, args.loras)
    if not kept.is_file():
        stage.config = fitted(stage, accelerator, 60 * args.minutes - (time.perf_counter() - began))
    options = stage.config.training
    print(f'teaching "{name}": {options.steps} steps of {options.batch_size} in {run}', flush=True)
    with Run(run, stage.config) as opened:
        Trainer(stage, stage.config, accelerator).train(opened)
    print(f'"{name}" is learned: {stage.file}; ask for it with {put_lora(name, name, TAUGHT_WEIGHT)}')
    return 0


def _new_run(name: str) -> Path:
    stem = f"{time.strftime('%Y-%m-%d')}-teach-{name.replace(' ', '-')}"
    number = 1
    while (new := runs_folder() / (stem if number == 1 else f"{stem}-{number}")).exists():
        number += 1
    return new
