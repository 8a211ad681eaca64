"""Checkpoints that survive a lost power cord: safetensors and JSON, complete or absent, never half."""

import json
import shutil
from pathlib import Path
from typing import Any, Literal

from safetensors.torch import load_file, save_file
from torch import Tensor

from models.errors import StudioError
from models.weights import sha256
from models.writing import sync
from training.disk import require_space

MANIFEST = "manifest.json"


def save_checkpoint(
    folder: Path, step: int, tensors: dict[str, dict[str, Tensor]], scalars: dict[str, Any]
) -> Path:
    """Write `folder/step-N/` with one safetensors file per entry of `tensors`.

    The folder appears under its name only when every byte is on the disk and its manifest names the
    size and sha256 of each file; the link `latest` beside it is for people. Nothing in it depends on the
    time, so the same training writes the same bytes.

    Raises: StudioError when the disk is too full to hold it beside the older ones.
    """
    needed_bytes = sum(t.numel() * t.element_size() for part in tensors.values() for t in part.values())
    require_space(folder, needed_bytes, "a checkpoint takes", ", and run the same command again")
    target, partial = folder / f"step-{step}", folder / f"step-{step}.partial"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    for name, part in tensors.items():
        save_file({key: tensor.contiguous() for key, tensor in part.items()}, partial / f"{name}.safetensors")
    (partial / "state.json").write_text(json.dumps({"step": step, **scalars}), encoding="utf-8")
    files = sorted(partial.iterdir())
    manifest = {file.name: {"bytes": file.stat().st_size, "sha256": sha256(file)} for file in files}
    (partial / MANIFEST).write_text(json.dumps(manifest), encoding="utf-8")
    for file in (*files, partial / MANIFEST, partial):
        sync(file)
    if target.exists():  # the same step again: the old one goes only when the new one is complete
        target.rename(folder / f"step-{step}.replaced")
    partial.rename(target)
    sync(folder)
    _point_latest_at(target)
    return target


def load_checkpoint(checkpoint: Path) -> tuple[dict[str, dict[str, Tensor]], dict[str, Any]]:
    """Tensors and scalars of a whole checkpoint.

    Tensors are copies: those that safetensors gives live in the file, which will be deleted one day.
    """
    tensors = {
        file.stem: {name: tensor.clone() for name, tensor in load_file(file).items()}
        for file in checkpoint.glob("*.safetensors")
    }
    scalars: dict[str, Any] = json.loads((checkpoint / "state.json").read_text(encoding="utf-8"))
    return tensors, scalars


def is_whole(checkpoint: Path) -> bool:
    """Whether every file that the manifest names is there with the content it names.

    Raises: StudioError where the disk does not say: what cannot be read today is not damaged.
    """
    try:
        manifest = json.loads((checkpoint / MANIFEST).read_text(encoding="utf-8"))
        return all(
            (checkpoint / name).stat().st_size == said["bytes"]
            and sha256(checkpoint / name) == said["sha256"]
            for name, said in manifest.items()
        )
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        return False
    except (ValueError, KeyError, TypeError, AttributeError):
        return False
    except OSError as error:
        raise StudioError(
            f"{error.filename} cannot be read ({error.strerror}), so nobody knows whether this checkpoint is "
            "whole; see to the disk or the rights and run the same command again"
        ) from error


def newest_step(folder: Path) -> int:
    """The step of the newest whole checkpoint, 0 without one; StudioError as from `is_whole`."""
    newest_first = sorted(steps(folder), key=step_of, reverse=True)
    return next((step_of(one) for one in newest_first if is_whole(one)), 0)


def set_aside_after(folder: Path, step: int) -> None:
    """Rename checkpoints later than the one a run goes on from: they are damaged, or of another future."""
    for late in steps(folder):
        if step_of(late) > step:
            shutil.rmtree(late.with_suffix(".damaged"), ignore_errors=True)
            late.rename(late.with_suffix(".damaged"))


def prune(folder: Path, keep: int | Literal["all"]) -> None:
    """Delete all but the `keep` newest checkpoints (at least one stays), and what is left of others."""
    newest_first = sorted(steps(folder), key=step_of, reverse=True)
    for old in [] if keep == "all" else newest_first[max(keep, 1) :]:
        shutil.rmtree(old)
    for ending in ("partial", "replaced", "damaged"):
        for leftover in folder.glob(f"step-*.{ending}"):
            shutil.rmtree(leftover)


def steps(folder: Path) -> list[Path]:
    """The checkpoint folders below `folder`, in no order."""
    return [path for path in folder.glob("step-*") if path.name.removeprefix("step-").isdigit()]


def _point_latest_at(checkpoint: Path) -> None:
    link = checkpoint.parent / "latest.partial"
    try:
        link.unlink(missing_ok=True)
        link.symlink_to(checkpoint.name)
        link.replace(checkpoint.parent / "latest")
    except OSError:
        link.unlink(missing_ok=True)  # a file system without links; nothing reads it


def step_of(checkpoint: Path) -> int:
    """The step that a checkpoint is of, by its folder's name."""
    return int(checkpoint.name.removeprefix("step-"))
