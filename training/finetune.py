"""A training that begins at a model folder: what the folder decides, and what must not contradict it."""

from dataclasses import replace
from pathlib import Path

from torch import nn

from models.errors import ConfigError
from models.folder import model_path
from training.config import AutoencoderConfig, Init


def resolve_autoencoder(config: AutoencoderConfig) -> AutoencoderConfig:
    """The configuration with everything filled in that `init.model`, or the lack of one, decides."""
    begin, model = folder_of(config.init.model), config.autoencoder
    preset = model.preset or ("" if begin else "starter")
    return replace(config, init=Init(begin), autoencoder=replace(model, preset=preset))


def folder_of(named: str) -> str:
    """The model folder that a setting names, which may be a run's; "" for none."""
    return str(model_path(named)) if named else ""


def check_preset(key: str, preset: str, wanted: nn.Module, begun: nn.Module, folder: str | Path) -> None:
    """Refuse a preset of another architecture than what training begins with; ConfigError naming both."""
    shapes = [{name: tensor.shape for name, tensor in one.state_dict().items()} for one in (wanted, begun)]
    if shapes[0] != shapes[1]:
        raise ConfigError(
            f"{key} is {preset!r}, but init.model {folder} has another architecture; leave {key} out"
        )
