"""The feature networks that pictures can be compared by: the one that is here, or one by local weights."""

import hashlib
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Protocol

from torch import Tensor

from models.errors import ModelError
from models.features import CHECKPOINT, load_feature_network
from models.inception import FidInception
from models.weights import read_json, sha256


class Embedder(Protocol):
    """What turns pictures into features."""

    def embed(self, pixels: Tensor) -> Tensor:
        """(B, 3, H, W) in [-1, 1] -> (B, D)."""


@dataclass(frozen=True, slots=True)
class Network:
    """A feature network: its name, which belongs to every measure by it, and a digest of its files."""

    name: str
    digest: str
    embedder: Embedder

    @property
    def is_shipped(self) -> bool:
        """Whether it is the one that measures go by unless another is named."""
        return self is shipped_network()


@cache
def shipped_network() -> Network:
    """The EfficientNet-Lite0 of checkpoints/features."""
    return Network(CHECKPOINT.name, _digest(CHECKPOINT), load_feature_network())


def read_network(path: Path | None) -> Network:
    """The shipped network for None, else a CLIP folder as transformers writes it, or an Inception file.

    It is called as the folder or file is, with `clip` or `inception` before it where the name lacks it.
    Raises: ModelError for anything else.
    """
    if path is None or path.resolve() == CHECKPOINT:
        return shipped_network()
    if not path.exists():
        raise ModelError(f"{path} is not there; --features names a CLIP folder or an Inception .safetensors")
    if path.is_file():
        return Network(_name("inception", path.stem), _digest(path), FidInception.from_file(path))
    kind = read_json(path / "config.json").get("model_type")
    if kind not in ("clip", "clip_vision_model"):
        raise ModelError(
            f"{path} holds the network {kind!r}; --features takes CLIP (clip, clip_vision_model) or Inception"
        )
    from models.clip_vision import ClipVision  # transformers takes seconds to import

    folder = path.resolve()
    # Where the hub's own cache is named, the model's name stands two folders up: models--owner--name.
    owner = folder.parent.parent if folder.parent.name == "snapshots" else folder
    return Network(_name("clip", owner.name.split("--")[-1]), _digest(folder), ClipVision.from_folder(folder))


def _name(architecture: str, given: str) -> str:
    return given if architecture in given.lower() else f"{architecture}-{given}"


def _digest(path: Path) -> str:
    """Over the configs and weights of a folder, or over a file."""
    files = [path] if path.is_file() else sorted([*path.glob("*.json"), *path.glob("*.safetensors")])
    return hashlib.sha256("\n".join(map(sha256, files)).encode()).hexdigest()
