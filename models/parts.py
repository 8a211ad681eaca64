"""What a model says of its parts, be it a folder or a single file. No torch."""

from pathlib import Path
from typing import Any

from models.defaults import ImageCondition
from models.errors import ModelError
from models.single_file.checkpoint import TOKENIZER, is_single_file, read_checkpoint
from models.weights import find_weights, read_header, read_json


def has_part(model: Path, part: str) -> bool:
    """Whether a model has such a part, by the name of its folder."""
    if is_single_file(model):
        return part in read_checkpoint(model).parts
    return (model / part).is_dir()


def part_config(model: Path, part: str) -> dict[str, Any]:
    """The config of a part, or of the `scheduler`; ModelError where it is missing or damaged."""
    if not is_single_file(model):
        return read_json(model / part / ("scheduler_config.json" if part == "scheduler" else "config.json"))
    checkpoint = read_checkpoint(model)
    if part == "scheduler":
        return dict(checkpoint.scheduler)
    if part not in checkpoint.parts:
        raise ModelError(f"{model} holds no part {part!r}; use another model")
    return dict(checkpoint.parts[part].config)


def part_parameters(model: Path, part: str) -> int:
    """How many numbers the weights of a part are."""
    if is_single_file(model):
        return read_checkpoint(model).parts[part].parameters
    return sum(entry.parameters for entry in read_header(find_weights(model / part)).values())


def tokenizer_folder(model: Path) -> Path:
    """Where a model's tokenizer lies: single files bring none, and all of them read CLIP's."""
    return TOKENIZER if is_single_file(model) else model / "tokenizer"


def image_condition(model: Path) -> ImageCondition | None:
    """The picture that a model is shown beside its prompt; None for a text-to-image model."""
    if is_single_file(model):
        return ImageCondition("inpaint") if read_checkpoint(model).inpaint else None
    return ImageCondition.from_index(read_json(model / "model_index.json"))
