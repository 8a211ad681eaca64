"""A checkpoint of stage 2 as a model folder: its averaged weights, all else as in the run's own `model/`."""

import json
import os
import shutil
import tempfile
import tomllib
from contextlib import suppress
from pathlib import Path

import torch
from safetensors import safe_open
from torch import Tensor

from models.defaults import INSTANT, METRICS
from models.errors import StudioError
from models.folder import load_condition_encoder, load_part, save_part
from models.weights import LORA_FILE, find_weights, read_header, read_metadata, sha256
from models.writing import save_weights
from training.checkpoint import MANIFEST, step_of, steps
from training.config import DiffusionConfig, load_config
from training.disk import require_space

STAMP = "checkpoint.sha256"  # of the averages that an exported folder was made of


def checkpoint_steps(run: Path) -> list[int]:
    """The steps that a run has checkpoints of, rising."""
    return sorted(map(step_of, steps(run / "checkpoints")))


def export_checkpoint(run: Path, step: int, folder: Path) -> Path:
    """Make `folder/<run>-step-N`, what the run's `model/` was after N steps; at once where it is there.

    What training does not change is linked to the files of `model/`, so a folder costs what was trained, in
    half precision. Reads the averages only, and may be called while the run goes on.
    Raises: StudioError for a checkpoint that is not there or damaged, a run of stage 1, a full disk.
    """
    run = run.resolve()
    checkpoint, model, target = (
        run / "checkpoints" / f"step-{step}",
        run / "model",
        folder / f"{run.name}-step-{step}",
    )
    try:
        config = tomllib.loads((run / "config.toml").read_text(encoding="utf-8"))
        manifest = json.loads((checkpoint / MANIFEST).read_text(encoding="utf-8"))
        averages = manifest["ema.safetensors"]
    except (OSError, ValueError, KeyError) as error:
        there = ", ".join(map(str, checkpoint_steps(run))) or "none"
        raise StudioError(f"{run} has no whole checkpoint of step {step}; there is {there}") from error
    if "autoencoder" in config:
        raise StudioError(f"{run} trains an autoencoder, which draws nothing; name a run of a denoiser")
    if not (model / "model_index.json").is_file():
        raise StudioError(f"{run} has not written its model/ yet; try again in a moment")
    if (target / STAMP).is_file() and (target / STAMP).read_text() == averages["sha256"]:
        return target
    require_space(folder, averages["bytes"], "the model of a checkpoint takes up to", " and try again")
    with tempfile.TemporaryDirectory(dir=folder, prefix=".writing-") as draft:
        made = Path(draft) / "model"
        # What was measured is true of `model/` alone, and adapters beside it are those of the newest step.
        student = "distill" in config
        left_out = shutil.ignore_patterns(METRICS, *(() if student else (LORA_FILE,)), ".*")
        shutil.copytree(model, made, ignore=left_out, copy_function=_link)
        try:
            if sha256(checkpoint / "ema.safetensors") != averages["sha256"]:
                raise StudioError(f"{checkpoint}/ema.safetensors is damaged; choose another checkpoint")
            if not config.get("lora", {}).get("rank"):
                _replace_weights(checkpoint, made, student)
            elif student:
                _replace_adapters(checkpoint, find_weights(made / INSTANT))
            else:
                _merge_adapters(run, checkpoint, made)
        except OSError as error:  # a training deletes its older checkpoints
            raise StudioError(f"{error.filename or checkpoint} is gone; choose another checkpoint") from error
        (made / STAMP).write_text(averages["sha256"])
        shutil.rmtree(target, ignore_errors=True)
        made.rename(target)
    return target


def _replace_weights(checkpoint: Path, made: Path, student: bool) -> None:
    """Give the parts of a model folder that were trained the averages of a checkpoint."""
    with (
        safe_open(checkpoint / "ema.safetensors", "pt") as ema,
        safe_open(checkpoint / "weights.safetensors", "pt") as weights,
    ):
        averaged = set(ema.keys())
        prefixes = {INSTANT if student else "unet": ""}
        if any(name.startswith("encoder.") for name in averaged):  # trained with the denoiser
            text = (made / "text_encoder").is_dir()
            encoder = {"text_encoder": "encoder.encoder."} if text else {"class_encoder": "encoder."}
            prefixes = {"unet": "unet.", **encoder}
        for part, prefix in prefixes.items():
            file = find_weights(made / part)
            tensors: dict[str, Tensor] = {}
            for name in read_header(file):
                source = ema if prefix + name in averaged else weights  # buffers have no average
                tensors[name] = source.get_tensor(prefix + name)
            save_weights(file, tensors, torch.float16)


def _replace_adapters(checkpoint: Path, file: Path) -> None:
    """Give a student's adapters the averages of a checkpoint."""
    with safe_open(checkpoint / "ema.safetensors", "pt") as ema:
        names = {name.replace("/", "."): name for name in ema.keys()}  # noqa: SIM118
        tensors = {name: ema.get_tensor(names[name]) for name in read_header(file)}
    save_weights(file, tensors, torch.float16, read_metadata(file))


def _merge_adapters(run: Path, checkpoint: Path, made: Path) -> None:
    """Put the averaged adapters of a checkpoint into the weights that they were trained on."""
    from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel  # seconds, for adapters alone

    from training.lora import Adapters

    config = load_config(DiffusionConfig, str(run / "config.toml"), [])
    base = Path(config.init.model)
    adapters = Adapters(load_part(UNet2DConditionModel, base / "unet"), load_condition_encoder(base), config)
    with safe_open(checkpoint / "ema.safetensors", "pt") as ema:
        adapters.trained.load_state_dict({name: ema.get_tensor(name) for name in ema.keys()})  # noqa: SIM118
    unet, encoder = adapters.merged(adapters.trained)
    save_part(unet, made / "unet")
    encoder.save(made)


def _link(source: str, target: str) -> None:
    """The same file under another name, a copy where the disk has no such links."""
    with suppress(OSError):
        os.link(Path(source).resolve(), target)
        return
    shutil.copy2(source, target)
