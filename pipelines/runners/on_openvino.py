"""A model's networks on OpenVINO, on the CPU."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from models.folder import LatentDiffusionModel
from models.text_encoder import TextStates
from pipelines.prompt.lora import take_loras
from pipelines.request import GenerationRequest
from pipelines.runners.folder import openvino_version
from pipelines.runners.graphs import DECODER, UNET, import_openvino
from pipelines.text_to_image import final_size


class OpenVINORunner:
    """Runs the graphs of a model, in the folder that `ready_graphs` gave; its UNet may be asleep.

    `precision` is f32 or bf16, "" for bf16 where the processor computes in it and f32 elsewhere. It has as
    many threads as torch. Raises RequestError where OpenVINO cannot be imported.
    """

    def __init__(self, model: LatentDiffusionModel, folder: Path, precision: str = "") -> None:
        core = import_openvino().Core()
        able = core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        precision = precision or ("bf16" if "BF16" in able else "f32")
        self.name = f"openvino cpu {precision} {openvino_version()}"
        settings = {
            "INFERENCE_PRECISION_HINT": precision,
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_NUM_THREADS": torch.get_num_threads(),
            "ENABLE_CPU_PINNING": False,  # threads nailed to cores wait for whatever else runs there
        }
        self._unet = core.compile_model(folder / UNET, "CPU", settings)
        self._read = {name for port in self._unet.inputs for name in port.names}  # not every UNet reads all
        self._model, self._decoder = model, None
        if (folder / DECODER).exists():
            self._decoder = core.compile_model(folder / DECODER, "CPU", settings)
        config: Any = model.denoiser.unet.config
        self._levels_multiple = 2 ** (len(config.block_out_channels) - 1)

    def unet(self, z: Tensor, t: Tensor, states: TextStates) -> Tensor:
        """The UNet's output (B, C, h, w) in z's precision."""
        given = {"z": z, "t": t, "hidden": states.hidden, "mask": states.mask, "pooled": states.pooled}
        return _infer(self._unet, {name: given[name] for name in given if name in self._read}).to(z.dtype)

    def decode(self, latents: Tensor) -> Tensor:
        """Pixels (B, 3, H, W), about [-1, 1], of normalised latents (B, C, h, w)."""
        autoencoder = self._model.autoencoder
        if self._decoder is None:
            return autoencoder.decode(latents)
        self._unet.release_memory()  # of its layers; the decoder's take as much again
        return _infer(self._decoder, {"raw": autoencoder.decodable(latents)})

    def why_not(self, pictures: Sequence[GenerationRequest]) -> str | None:
        """A sentence saying why torch draws these pictures, their prompts expanded; None if this does."""
        request = pictures[0]
        if any(take_loras(one.prompt)[1] for one in pictures):
            return "Drawn on torch: a LoRA changes the weights that OpenVINO's graph was made of."
        if request.controls:
            return "Drawn on torch: OpenVINO's graph has no place for what a ControlNet adds."
        if request.tiling:
            return "Drawn on torch: seamless pictures need other convolutions than OpenVINO's graph has."
        multiple = self._model.autoencoder.downsampling_factor * self._levels_multiple
        sides = (request.width, request.height, *final_size(self._model, request))
        if math.gcd(*sides) % multiple:  # elsewhere diffusers' UNet takes another way than the one converted
            return f"Drawn on torch: OpenVINO's graph takes sizes in multiples of {multiple} pixels."
        return None


def _infer(network: Any, given: dict[str, Tensor]) -> Tensor:
    """The only output of a compiled graph, in memory of its own."""
    arrays = {
        name: (one.float() if one.is_floating_point() else one).contiguous().numpy()
        for name, one in given.items()
    }
    return torch.from_numpy(network(arrays, share_inputs=True)[0])
