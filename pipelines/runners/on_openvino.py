"""A model's networks on OpenVINO, on the CPU."""

import math
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from models.latent_diffusion import LatentDiffusionModel
from models.text_encoder import TextStates
from pipelines.prompt.lora import take_loras
from pipelines.request import GenerationRequest
from pipelines.runners.folder import openvino_version
from pipelines.runners.graphs import DECODER, UNET, import_openvino
from pipelines.text_to_image import final_size

# In bf16 the first steps, where it is decided what a picture becomes, are of float32 where the UNet is small
# enough to be kept twice: a rounding there can make another picture (docs/performance.md).
FIRST_TIMESTEP = 800  # and all above it
TWICE_BYTES = 500e6  # of float32 weights


class Graph:
    """A graph on as many threads as torch has.

    Two rows and more are computed as two halves at a time, each on half of the threads: the layers of a small
    network are over so soon that two threads of one would mostly wait for each other.
    """

    def __init__(self, core: Any, file: Path, precision: str) -> None:
        self._core, self._file = core, file
        self._settings = {
            "INFERENCE_PRECISION_HINT": precision,
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_NUM_THREADS": torch.get_num_threads(),
            "ENABLE_CPU_PINNING": False,  # threads nailed to cores wait for whatever else runs there
        }
        self._compiled: dict[int, tuple[Any, list[Any]]] = {}  # network and its requests, by their number

    def prepare(self, rows: int) -> tuple[Any, list[Any]]:
        """Load what computes so many rows; the network and its requests."""
        count = min(2, rows, torch.get_num_threads())
        if count not in self._compiled:
            network = self._core.compile_model(self._file, "CPU", self._settings | {"NUM_STREAMS": count})
            self._compiled[count] = network, [network.create_infer_request() for _ in range(count)]
        return self._compiled[count]

    def __call__(self, given: dict[str, Tensor]) -> Tensor:
        """The only output (B, ...) for inputs of B rows by name, of which a graph need not read all."""
        rows = len(next(iter(given.values())))
        network, requests = self.prepare(rows)
        read = {name for port in network.inputs for name in port.names}
        arrays = {
            name: (one.float() if one.is_floating_point() else one).contiguous().numpy()
            for name, one in given.items()
            if name in read
        }
        bounds = [n * rows // len(requests) for n in range(len(requests) + 1)]
        parts = [{name: one[start:stop] for name, one in arrays.items()} for start, stop in pairwise(bounds)]
        for request, part in zip(requests, parts, strict=True):
            request.start_async(part, share_inputs=True)
        outputs = []
        for request in requests:
            request.wait()
            outputs.append(torch.from_numpy(request.get_output_tensor().data))
        return torch.cat(outputs)  # in memory of its own

    def release_memory(self) -> None:
        """Give back what the layers' outputs take, until it is run again."""
        for network, _ in self._compiled.values():
            network.release_memory()


class OpenVINORunner:
    """Runs the graphs of a model, in the folder that `ready_graphs` gave; its UNet may be asleep.

    `precision` is f32 or bf16, "" for bf16 where the processor computes in it and f32 elsewhere; the first
    steps of a small UNet are f32 with both. It has as many threads as torch. Raises RequestError where
    OpenVINO cannot be imported.
    """

    def __init__(self, model: LatentDiffusionModel, folder: Path, precision: str = "") -> None:
        core = import_openvino().Core()
        able = core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        precision = precision or ("bf16" if "BF16" in able else "f32")
        self._unet = self._first_unet = Graph(core, folder / UNET, precision)
        self._model = model
        self._decoder = Graph(core, folder / DECODER, precision) if (folder / DECODER).exists() else None
        unet: Any = model.denoiser.unet
        if precision == "bf16" and 4 * sum(p.numel() for p in unet.parameters()) <= TWICE_BYTES:
            self._first_unet = Graph(core, folder / UNET, "f32")
            precision = "bf16+f32"
        self.name = f"openvino cpu {precision} {openvino_version()}"
        self._levels_multiple = 2 ** (len(unet.config.block_out_channels) - 1)
        for graph in {self._unet, self._first_unet}:
            graph.prepare(1 if model.defaults.guidance_scale in (0, 1) else 2)

    def unet(self, z: Tensor, t: Tensor, states: TextStates) -> Tensor:
        """The UNet's output (B, C, h, w) in z's precision, at one time t (B,)."""
        given = {"z": z, "t": t, "hidden": states.hidden, "mask": states.mask, "pooled": states.pooled}
        graph = self._first_unet if t[0] >= FIRST_TIMESTEP else self._unet
        return graph(given).to(z.dtype)

    def decode(self, latents: Tensor) -> Tensor:
        """Pixels (B, 3, H, W), about [-1, 1], of normalised latents (B, C, h, w)."""
        autoencoder = self._model.autoencoder
        if self._decoder is None:
            return autoencoder.decode(latents)
        for graph in (self._unet, self._first_unet):
            graph.release_memory()  # of its layers; the decoder's take as much again
        return self._decoder({"raw": autoencoder.decodable(latents)})

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
