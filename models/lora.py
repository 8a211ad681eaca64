"""LoRA files in diffusers' format, and a model with them: W + weight (alpha / r) B A in the place of each W.

Source: Hu et al. 2021, 2106.09685, equation 3. What a file says of itself is read without torch.
"""

import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

from models.errors import ModelError
from models.weights import load_weights, read_header, read_metadata

if TYPE_CHECKING:
    from torch import nn

LORA_SUFFIX, LORA_FILE = ".safetensors", "pytorch_lora_weights.safetensors"  # any, and that of a run
LORAS, LORAS_VARIABLE = "loras", "LATENT_STUDIO_LORAS"
# A tensor's name: part, layer, and which it is, as peft or as older versions of diffusers write it.
KEY = re.compile(
    r"(?P<part>unet|text_encoder)\.(?P<layer>.+?)"
    r"(?P<kind>\.lora_A\.weight|\.lora\.down\.weight|\.lora_B\.weight|\.lora\.up\.weight|\.alpha)"
)
KINDS = {
    ".lora_A.weight": "down",
    ".lora.down.weight": "down",
    ".lora_B.weight": "up",
    ".lora.up.weight": "up",
    ".alpha": "alpha",
}


def loras_folder(outputs: Path) -> Path:
    """Where LoRAs lie: $LATENT_STUDIO_LORAS, else loras/ in the folder of the pictures."""
    named = os.environ.get(LORAS_VARIABLE)
    return Path(named).expanduser() if named else outputs / LORAS


@dataclass(frozen=True, slots=True)
class LoraFile:
    """What a LoRA file says of itself.

    `base` is the id of the model that it belongs to, "" where it does not say, `captions` what to ask it for.
    """

    path: Path
    base: str
    captions: tuple[str, ...]
    settings: Mapping[str, Any]  # of peft, by part and name: "unet.lora_alpha"

    @property
    def name(self) -> str:
        """What a prompt calls it."""
        return self.path.stem

    def misfit(self, networks: Mapping[str, "nn.Module"], model_id: str) -> str | None:
        """Why it is not for the networks of a model, by part; None where it is. Reads no tensor.

        Raises ModelError for a file that is damaged or in another format.
        """
        if self.base not in ("", model_id):
            return f"it belongs to the model {self.base}, this one is {model_id}"
        shapes = {name: entry.shape for name, entry in read_header(self.path).items()}
        modules = {part: dict(network.named_modules()) for part, network in networks.items()}
        for (part, layer), names in _layers(self.path, shapes).items():
            weight = getattr(modules.get(part, {}).get(layer), "weight", None)
            down, up = shapes[names["down"]], shapes[names["up"]]
            if weight is None or weight.ndim < 2:
                return f"it adapts {part}.{layer}, which this model has not"
            if (up[0], prod(down[1:])) != (len(weight), weight[0].numel()) or prod(up[1:]) != down[0]:
                return f"its {part}.{layer} is of another shape than this model's"
        return None

    def scale(self, part: str, layer: str, rank: int) -> float:
        """alpha / r of a layer, by the settings."""
        alphas = self.settings.get(f"{part}.alpha_pattern") or {}
        default = self.settings.get(f"{part}.lora_alpha", rank)
        alpha = next((a for end, a in alphas.items() if f".{layer}".endswith(f".{end}")), default)
        return float(alpha) / (rank**0.5 if self.settings.get(f"{part}.use_rslora") else rank)


def read_lora_file(path: Path) -> LoraFile:
    """What a LoRA file says of itself; ModelError where it cannot be read."""
    metadata = read_metadata(path)
    try:
        captions = json.loads(metadata.get("trigger_captions", "[]"))
        settings = json.loads(metadata.get("lora_adapter_metadata", "{}"))
    except ValueError as error:
        raise ModelError(f"{path}: its metadata is damaged ({error}); get the file again") from error
    if not isinstance(settings, dict) or not isinstance(captions, list):
        raise ModelError(f"{path}: its metadata is damaged; get the file again")
    said = tuple(caption for caption in captions if isinstance(caption, str))
    return LoraFile(path, metadata.get("base_model_id", ""), said, settings)


@contextmanager
def adapted(networks: Mapping[str, "nn.Module"], loras: Sequence[tuple[LoraFile, float]]) -> Iterator[None]:
    """The networks of a model, by part, with LoRAs of some weights in them while this lasts.

    Afterwards they have their own parameters back, the same objects. Raises ModelError for a file that
    cannot be read. That they fit, `LoraFile.misfit` says.
    """
    import torch

    own: dict[tuple[str, str], nn.Parameter] = {}
    try:
        with torch.no_grad():
            for lora, weight in loras:
                tensors = load_weights(lora.path)
                for (part, layer), names in _layers(lora.path, tensors).items():
                    module = networks[part].get_submodule(layer)
                    before = module.get_parameter("weight")
                    own.setdefault((part, layer), before)
                    down, up = (tensors[names[kind]].to(before.device).flatten(1) for kind in ("down", "up"))
                    rank = len(down)
                    scale = lora.scale(part, layer, rank)
                    if "alpha" in names:
                        scale = float(tensors[names["alpha"]]) / rank
                    change = (weight * scale * (up @ down)).view_as(before)
                    merged = (before.float() + change).to(before.dtype)
                    module.register_parameter("weight", torch.nn.Parameter(merged, requires_grad=False))
        yield
    finally:
        for (part, layer), parameter in own.items():
            networks[part].get_submodule(layer).register_parameter("weight", parameter)


def _layers(path: Path, tensors: Mapping[str, Any]) -> dict[tuple[str, str], dict[str, str]]:
    """The names of tensors by (part, layer) and kind; ModelError for a file in another format."""
    layers: dict[tuple[str, str], dict[str, str]] = {}
    for name in tensors:
        key = KEY.fullmatch(name)
        if key is None:
            raise ModelError(
                f"{path} is no LoRA as diffusers writes it: {name[:80]!r} is unknown; convert it with "
                "diffusers' load_lora_weights and save_lora_weights"
            )
        layers.setdefault((key["part"], key["layer"]), {})[KINDS[key["kind"]]] = name
    for (part, layer), names in layers.items():
        if not {"down", "up"} <= names.keys():
            raise ModelError(f"{path} lacks a matrix of {part}.{layer}; get the file again")
    return layers
