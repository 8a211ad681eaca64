"""Where a model's networks lie while it draws: all on the device, or there by turns."""

import ctypes
import logging
import sys
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from models.errors import ModelError
from models.folder import load_model
from models.folder_check import model_name
from models.latent_diffusion import LatentDiffusionModel
from models.machine import free_memory_bytes
from models.upsampling import upsample_on_small_grids
from pipelines.memory import ModelBytes, OutOfMemoryError, Plan, WorkBytes, choose_plan, refusal

logger = logging.getLogger(__name__)
META = torch.device("meta")  # of weights that lie in no memory

# How torch and oneDNN say it where they have no class of error for it.
OUT_OF_MEMORY = (
    "can't allocate memory",
    "not enough memory",
    "out of memory",
    "bad_alloc",
    "create a memory",
)


class Placement:
    """Lays the networks of a model as a plan says; the plans are for one device and for the memory left."""

    def __init__(self, model: LatentDiffusionModel, device: torch.device, dtype: torch.dtype) -> None:
        self._model, self._device, self._dtype = model, device, dtype
        self._unets: list[Any] = [one.denoiser.unet for one in (model, model.instant) if one is not None]
        vae = model.autoencoder.vae
        parts = (*self._unets, getattr(vae, "encoder", None), getattr(vae, "decoder", None))
        self._by_turns = [part for part in parts if isinstance(part, nn.Module)]
        # Counted once: to ask every tensor takes 18 ms of the starter, at every picture.
        self._sizes = [(part, _bytes(part)) for part in (model.text_encoder, *self._by_turns)]
        self._handles: list[torch.utils.hooks.RemovableHandle] = []
        self._offloaded: bool | None = None
        self._bytes = ModelBytes(
            text_encoder=_bytes(model.text_encoder),
            denoiser=sum(map(_bytes, self._unets)),
            autoencoder=_bytes(model.autoencoder),
        )
        width, height = model.defaults.width, model.defaults.height
        self.arrange(self.choose((width, height), images=1, prompts=2))
        for network in (*self._unets, vae):
            upsample_on_small_grids(network)
        if device.type == "cuda":  # whose convolutions are made for it
            for unet in self._unets:
                unet.to(memory_format=torch.channels_last)

    def choose(
        self, size: tuple[int, int], images: int, prompts: int, on_torch: nn.Module | None = None
    ) -> Plan:
        """How to draw pictures of (width, height); OutOfMemoryError, before it begins, where none fits.

        `on_torch` is the UNet that torch draws with; one that sleeps while a graph draws needs no room.
        """
        # The autoencoder may be woken by any picture, to encode or to decode in tiles.
        asleep = [unet for unet in self._unets if unet is not on_torch and _lies_on(unet, META)]
        there = sum(size for part, size in self._sizes if _lies_on(part, self._device) or part in asleep)
        free = _free_bytes(self._device) + there
        unet, vae = self._unets[0].config, self._model.autoencoder.vae.config
        work = WorkBytes.of(unet, vae, size, prompts=prompts)
        plan = choose_plan(free, self._bytes, work, images, can_offload=self._device.type == "cuda")
        if plan is None:
            raise OutOfMemoryError(refusal(free, self._bytes, work, size))
        if words := plan.in_words(images):
            logger.warning("%.1f GB are free, so %s is drawn %s", free / 1e9, self._model.name, words)
        return plan

    def arrange(self, plan: Plan) -> None:
        """Lay the networks so; while they take turns, one that is called sends the others to the CPU."""
        if plan.offload == self._offloaded:
            return
        self._offloaded = plan.offload
        for handle in self._handles:
            handle.remove()
        cpu = torch.device("cpu")
        rest = cpu if plan.offload else self._device
        self._model.text_encoder.to(rest)
        for unet in self._unets:
            # Not diffusers' own `to`, which warns of modules to keep in float32 where there are none.
            nn.Module.to(unet, rest, self._dtype)
        self._model.autoencoder.to(self._device)
        self._handles = []
        for part in self._by_turns if plan.offload else ():
            nn.Module.to(part, cpu)
            self._handles.append(part.register_forward_pre_hook(partial(self._take_turn, part)))

    def _take_turn(self, part: nn.Module, *_: object) -> None:
        for other in self._by_turns:
            if other is not part:
                nn.Module.to(other, "cpu")
        nn.Module.to(part, self._device)


def load_fitting(folder: Path) -> LatentDiffusionModel:
    """Load a model folder where memory has room for it; OutOfMemoryError else."""
    free = free_memory_bytes()
    try:
        needed = ModelBytes.of_folder(folder).total
    except ModelError:  # load_model tells what is wrong from what is being replaced just now
        needed = 0
    try:
        if needed <= free:
            return load_model(folder)
    except Exception as error:
        if not ran_out(error):
            raise
    raise OutOfMemoryError(
        f"There is not enough memory for {model_name(folder)}: it needs {needed / 1e9:.2f} GB, and "
        f"{free / 1e9:.2f} GB are free; choose a smaller model, or close other programs."
    )


def ran_out(error: Exception) -> bool:
    """Whether an error is that memory ran out, on any device."""
    said = isinstance(error, RuntimeError) and any(words in str(error).lower() for words in OUT_OF_MEMORY)
    return said or isinstance(error, MemoryError | torch.OutOfMemoryError)


def give_back(device: torch.device) -> None:
    """Have the memory that torch, or the C library, keeps for later be free again."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
    elif sys.platform == "linux" and (trim := getattr(ctypes.CDLL(None), "malloc_trim", None)):
        trim(0)  # glibc's


def _free_bytes(device: torch.device) -> int:
    if device.type != "cuda":
        return free_memory_bytes()
    kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return int(torch.cuda.mem_get_info(device)[0]) + kept


def _bytes(network: nn.Module) -> int:
    return sum(one.numel() * one.element_size() for one in (*network.parameters(), *network.buffers()))


def _lies_on(network: nn.Module, device: torch.device) -> bool:
    """Whether the weights of a network, which move together, are on a kind of device."""
    first = next(network.parameters(), None)
    return first is not None and first.device.type == device.type
