"""ControlNets in diffusers' folder form: what each is, and whether it fits a model.

Source: Zhang et al. 2302.05543, section 3.1: a copy of the UNet's encoder that is shown a picture, whose
outputs pass zero convolutions and are added to the UNet's own on their way to its decoder.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

from models.errors import ModelError
from models.folder_check import check_files
from models.weights import find_weights, read_header, read_json

if TYPE_CHECKING:
    from torch import nn

CONTROLNETS, CONTROLNETS_VARIABLE = "controlnets", "LATENT_STUDIO_CONTROLNETS"
CLASS = "ControlNetModel"
# What a net shares with the UNet that it was copied from, and its value where a config leaves it out.
SHARED: Mapping[str, Any] = {
    "block_out_channels": [320, 640, 1280, 1280],
    "layers_per_block": 2,
    "cross_attention_dim": 1280,
    "addition_embed_type": None,
    "addition_time_embed_dim": None,
    "projection_class_embeddings_input_dim": None,
}
EMBEDDING_CHANNELS = (16, 32, 96, 256)  # likewise, of what shrinks the picture to the size of the latents
# Kinds of diffusers' class that need more than words, a picture and a time, by the entry that asks for it.
UNSUPPORTED = {
    "global_pool_conditions": "that look at a picture as a whole",
    "class_embed_type": "that are told a class",
    "num_class_embeds": "that are told a class",
    "encoder_hid_dim_type": "that read other states than the UNet's",
    "encoder_hid_dim": "that read other states than the UNet's",
}
OURS = (
    "it is a model of Latent Studio's own training, and a ControlNet is a copy of Stable Diffusion's UNet: "
    "there are none for it"
)


def controlnets_folder(outputs: Path) -> Path:
    """Where ControlNets lie: $LATENT_STUDIO_CONTROLNETS, else controlnets/ in the folder of the pictures."""
    named = os.environ.get(CONTROLNETS_VARIABLE)
    return Path(named).expanduser() if named else outputs / CONTROLNETS


@dataclass(frozen=True, slots=True)
class ControlNetFolder:
    """A ControlNet on disk, its config and the header of its weights checked; reads no tensor."""

    path: Path
    config: Mapping[str, Any]

    @property
    def name(self) -> str:
        """What a request calls it."""
        return self.path.name

    @property
    def bytes_in_memory(self) -> int:
        """What its weights take in float32."""
        return 4 * sum(prod(entry.shape) for entry in read_header(find_weights(self.path)).values())

    def misfit(self, unet: Mapping[str, Any], downsampling_factor: int) -> str | None:
        """Why it is not for a model, by its UNet's config and its autoencoder's factor; None where it is."""
        if unet.get("class_embed_type") is not None:
            return OURS
        for key, default in SHARED.items():
            own, asked = self.config.get(key, default), unet.get(key, default)
            if _listed(own) != _listed(asked):
                return f"its {key} is {_said(own)}, the model's is {_said(asked)}"
        channels = self.config.get("in_channels", 4)
        if channels != unet.get("out_channels", 4):
            return f"it reads latents of {channels} channels, the model's have {unet.get('out_channels', 4)}"
        widths = self.config.get("conditioning_embedding_out_channels") or EMBEDDING_CHANNELS
        if 2 ** (len(widths) - 1) != downsampling_factor:
            times = 2 ** (len(widths) - 1)
            return f"it makes pictures {times} times smaller, the model {downsampling_factor} times"
        return None

    def load(self) -> "nn.Module":
        """The net on the CPU, frozen, in evaluation mode and in float32; ModelError where it is damaged."""
        from diffusers.models.controlnets.controlnet import ControlNetModel

        from models.folder import load_part

        net: nn.Module = load_part(ControlNetModel, self.path)
        return net.eval().requires_grad_(False)


def read_controlnet(folder: Path) -> ControlNetFolder:
    """A ControlNet's folder, checked but for the values of its weights; ModelError says what is wrong."""
    check_files(folder)
    file = folder / "config.json"
    config = read_json(file)
    if config.get("_class_name") != CLASS:
        raise ModelError(
            f"{file}: the class {config.get('_class_name')!r} is no ControlNet that can be used; those of "
            f"the class {CLASS} can, for Stable Diffusion 1, 2 and XL"
        )
    for key, kind in UNSUPPORTED.items():
        if config.get(key) not in (None, False):
            raise ModelError(f"{file}: ControlNets {kind} ({key}) are not supported; use another one")
    if config.get("addition_embed_type") not in (None, "text_time"):
        raise ModelError(
            f"{file}: addition_embed_type = {config['addition_embed_type']!r} is not supported; "
            "SDXL has text_time"
        )
    if config.get("conditioning_channels", 3) != 3:
        raise ModelError(
            f"{file}: it is shown pictures of {config['conditioning_channels']!r} channels; those of 3, red, "
            "green and blue, can be used"
        )
    widths = config.get("conditioning_embedding_out_channels")
    if widths is not None and not (isinstance(widths, list) and 1 <= len(widths) <= 8):
        raise ModelError(f"{file}: conditioning_embedding_out_channels is no list of widths; get it again")
    read_header(find_weights(folder))
    return ControlNetFolder(folder, config)


def _listed(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _said(value: Any) -> str:
    return "x".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
