"""Where the graphs of a model lie, and of which models there are none. No torch."""

import hashlib
import importlib.metadata
import os
from pathlib import Path

from models.errors import ModelError
from models.parts import has_part

GRAPHS, GRAPHS_VARIABLE = "graphs", "LATENT_STUDIO_GRAPHS"
VERSION = "2"  # of what is converted; another one converts it anew


def graphs_folder() -> Path:
    """Where graphs lie: $LATENT_STUDIO_GRAPHS, else graphs/."""
    return Path(os.environ.get(GRAPHS_VARIABLE, GRAPHS)).expanduser()


def graph_folder(model_id: str) -> Path:
    """The folder of a model's graphs: named by its weights and configs, and by what converts them."""
    versions = [openvino_version(), importlib.metadata.version("torch"), VERSION]
    return graphs_folder() / hashlib.sha256(" ".join([model_id, *versions]).encode()).hexdigest()[:16]


def only_on_torch(model: Path) -> bool:
    """Whether OpenVINO never draws with a model: SDXL, which is told by its second text encoder."""
    try:
        return has_part(model, "text_encoder_2")
    except ModelError:  # whoever loads it tells what is wrong
        return False


def openvino_version() -> str:
    """The version that is installed, "" without one; imports nothing."""
    try:
        return importlib.metadata.version("openvino")
    except importlib.metadata.PackageNotFoundError:
        return ""
