"""LoRA files, and a model with them: W + weight (alpha / r) B A in the place of each W.

Source: Hu et al. 2021, 2106.09685, equation 3. What a file says of itself is read without torch; how it
names its layers, `lora_names` knows.
"""

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

from models.errors import ModelError
from models.lora_facts import FAMILIES_BY_WIDTH, bounded, read_family, read_rank, read_words
from models.lora_names import find_layer, is_newer, layer_tables, other_kind, read_name
from models.weights import load_weights, read_header, read_metadata

if TYPE_CHECKING:
    from torch import Tensor, nn

LORA_SUFFIX = ".safetensors"
LORAS, LORAS_VARIABLE = "loras", "LATENT_STUDIO_LORAS"
MAX_ALPHA = 1e6  # an int beyond float's range is none either
Shape = tuple[int, ...]


def loras_folder(outputs: Path) -> Path:
    """Where LoRAs lie: $LATENT_STUDIO_LORAS, else loras/ in the folder of the pictures."""
    named = os.environ.get(LORAS_VARIABLE)
    return Path(named).expanduser() if named else outputs / LORAS


@dataclass(frozen=True, slots=True)
class LoraFile:
    """What a LoRA file says of itself.

    `base` is the id of the model that it belongs to, `family` a kind of models, "" where it does not say;
    `captions` is what to ask it for.
    """

    path: Path
    base: str
    captions: tuple[str, ...]
    settings: Mapping[str, Any]  # of peft, by part and name: "unet.lora_alpha"
    family: str = ""
    rank: int | None = None

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
        if is_newer(shapes):
            made_for = f"for {self.family}" if self.family else "for another family"
            return f"it adapts a transformer, and this model is a UNet; it was made {made_for}"
        layers, tables = _layers(self.path, shapes), layer_tables(networks)
        family = self.family or _family(layers, shapes)
        made_for = f"; it was made for {family}" if family else ""
        for (part, layer), names in layers.items():
            found = find_layer(tables, part, layer)
            if found is None:
                of = ".".join(filter(None, (part, layer)))
                return f"it adapts {of[:200]}, which this model has not{made_for}"
            weight = networks[found[0]].get_submodule(found[1]).get_parameter("weight")
            given = {kind: shapes[name] for kind, name in names.items()}
            if not _fits(tuple(weight.shape), given):
                return f"its {'.'.join(found)} is of another shape than this model's{made_for}"
            self.scale(*found, given["down"][0])
        return None

    def scale(self, part: str, layer: str, rank: int) -> float:
        """alpha / r of a layer, by the settings; ModelError where these are no numbers."""
        alphas = self.settings.get(f"{part}.alpha_pattern") or {}
        alpha = self.settings.get(f"{part}.lora_alpha", rank)
        for end, own in alphas.items() if isinstance(alphas, dict) else ():
            if f".{layer}".endswith(f".{end.removeprefix('text_model.')}"):
                alpha = own
                break
        if type(alpha) not in (int, float) or not abs(alpha) < MAX_ALPHA:
            raise ModelError(f"{self.path}: the alpha of {part}.{layer} is no number; get the file again")
        return float(alpha) / (rank**0.5 if self.settings.get(f"{part}.use_rslora") else rank)


def read_lora_file(path: Path) -> LoraFile:
    """What a LoRA file says of itself; ModelError where it cannot be read."""
    metadata = read_metadata(path)
    try:
        captions = json.loads(metadata.get("trigger_captions", "[]"))
        settings = json.loads(metadata.get("lora_adapter_metadata", "{}"))
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{path}: its metadata is damaged ({error}); get the file again") from error
    if not isinstance(settings, dict) or not isinstance(captions, list):
        raise ModelError(f"{path}: its metadata is damaged; get the file again")
    return LoraFile(
        path,
        metadata.get("base_model_id", ""),
        bounded(captions) or read_words(metadata),
        settings,
        read_family(metadata),
        read_rank(metadata),
    )


@contextmanager
def adapted(
    networks: Mapping[str, "nn.Module"], loras: Sequence[tuple[LoraFile, float, float]]
) -> Iterator[None]:
    """The networks of a model, by part, with LoRAs in them while this lasts.

    Each has two weights, for the text encoders and for the UNet. Afterwards the networks have their own
    parameters back, the same objects. Raises ModelError for a file that cannot be read. That they fit,
    `LoraFile.misfit` says.
    """
    own: dict[tuple[str, str], nn.Parameter] = {}
    try:
        for lora, text_weight, unet_weight in loras:
            _put_in(networks, lora, text_weight, unet_weight, own)
        yield
    finally:
        for (part, layer), parameter in own.items():
            networks[part].get_submodule(layer).register_parameter("weight", parameter)


def merge(networks: Mapping[str, "nn.Module"], lora: LoraFile) -> None:
    """Put a LoRA into the weights of networks, by part, for good.

    Raises ModelError for a file that cannot be read. That it fits, `LoraFile.misfit` says.
    """
    _put_in(networks, lora, 1.0, 1.0, {})


def _put_in(
    networks: Mapping[str, "nn.Module"],
    lora: LoraFile,
    text_weight: float,
    unet_weight: float,
    own: dict[tuple[str, str], "nn.Parameter"],
) -> None:
    """Change weights, and put those that were there before into `own`, by part and layer."""
    import torch

    tensors, tables = load_weights(lora.path), layer_tables(networks)
    for (named, name), names in _layers(lora.path, tensors).items():
        found = find_layer(tables, named, name)
        if found is None:
            raise ModelError(f"{lora.path}: {name} is no layer of this model")
        part, layer = found
        module = networks[part].get_submodule(layer)
        before = module.get_parameter("weight")
        own.setdefault(found, before)
        given = {kind: tensors[tensor].to(before.device) for kind, tensor in names.items()}
        rank = len(given["down"])
        scale = float(given["alpha"]) / rank if "alpha" in given else lora.scale(part, layer, rank)
        weight = unet_weight if part == "unet" else text_weight
        change = (weight * scale * _product(given)).view_as(before)
        with torch.no_grad():
            merged = (before.float() + change).to(before.dtype)
        module.register_parameter("weight", torch.nn.Parameter(merged, requires_grad=False))


def _family(layers: Mapping[tuple[str, str], Mapping[str, str]], shapes: Mapping[str, Shape]) -> str:
    """The family that a LoRA is for by its shapes; "" where they tell none."""
    widths = {shapes[n["down"]][1:2] for (_, layer), n in layers.items() if layer.endswith("attn2_to_k")}
    return FAMILIES_BY_WIDTH.get(prod(widths.pop()), "") if len(widths) == 1 else ""


def _product(given: Mapping[str, "Tensor"]) -> "Tensor":
    """B A of a layer; with a core between them, which LyCORIS puts into convolutions, B C A."""
    import torch

    up, down = given["up"].flatten(1), given["down"].flatten(1)  # (out, r), (r, in) or (r, in k k)
    if "mid" not in given:
        return up @ down
    return torch.einsum("or,rshw,si->oihw", up, given["mid"], down)  # (out, in, k, k)


def _fits(weight: Shape, given: Mapping[str, Shape]) -> bool:
    """Whether the matrices of a layer make a change of its weight; a convolution of 1 x 1 is a matrix too."""
    down, up, mid = given["down"], given["up"], given.get("mid")
    if min(len(down), len(up)) < 2 or prod(given.get("alpha", ())) != 1:
        return False
    if mid is None:
        return (up[0], prod(down[1:])) == (weight[0], prod(weight[1:])) and prod(up[1:]) == down[0]
    return (up[0], prod(down[1:]), *mid) == (weight[0], weight[1], prod(up[1:]), down[0], *weight[2:])


def _layers(path: Path, tensors: Mapping[str, Any]) -> dict[tuple[str, str], dict[str, str]]:
    """The names of tensors by (part, layer) and kind; ModelError for a file in another format."""
    layers: dict[tuple[str, str], dict[str, str]] = {}
    for name in tensors:
        read = read_name(name)
        if read is None:
            if kind := other_kind(tensors):
                raise ModelError(
                    f"{path} is no plain LoRA but of the kind {kind}, which is not read; use a LoRA"
                )
            raise ModelError(
                f"{path} is no LoRA: {name[:80]!r} is unknown; it should be as diffusers, PEFT or kohya's "
                "scripts write it"
            )
        part, layer, kind = read
        layers.setdefault((part, layer), {})[kind] = name
    for (part, layer), names in layers.items():
        if not {"down", "up"} <= names.keys():
            of = ".".join(filter(None, (part, layer)))
            raise ModelError(f"{path} lacks a matrix of {of[:200]}; get the file again")
    return layers
