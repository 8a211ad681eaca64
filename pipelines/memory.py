"""How a picture is drawn in the memory there is: all at once, in parts, or not at all.

The choice is a pure function of bytes. No torch, so that the doctor can ask for a model that nobody loaded.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from models.defaults import INSTANT
from models.errors import StudioError
from models.parts import has_part, part_config, part_parameters

WHOLE_BYTES = 2**30  # a decoder's largest layer, up to which a picture is decoded at once
TILE_PIXELS = 512
FLOAT_BYTES = 4
# What a network holds at once while it computes, in sizes of its first layer (denoiser) or its largest one
# (decoder): measured, see docs/performance.md.
STEP_LAYERS, DECODER_LAYERS = 48, 6
RESERVE_BYTES = 128 * 2**20  # for the pictures themselves, and for whatever else the process does meanwhile
TOO_LITTLE = "There is not enough memory for this picture"


class OutOfMemoryError(StudioError):
    """The memory there is does not do for a request, or ran out while it was drawn."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelBytes:
    """The weights of a model's parts."""

    text_encoder: int
    denoiser: int
    autoencoder: int

    @property
    def total(self) -> int:
        """All of them."""
        return self.text_encoder + self.denoiser + self.autoencoder

    @classmethod
    def of_folder(cls, folder: Path) -> Self:
        """Those that a model will have in memory, in float32; ModelError where it is none."""

        def part(*names: str) -> int:
            return FLOAT_BYTES * sum(part_parameters(folder, one) for one in names if has_part(folder, one))

        return cls(
            text_encoder=part("text_encoder", "text_encoder_2", "class_encoder"),
            denoiser=part("unet") * (2 if has_part(folder, INSTANT) else 1),  # a student's is as large
            autoencoder=part("vae"),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkBytes:
    """What the networks hold at most while they compute for one picture; `tile` is one of its tiles."""

    step: int
    decode: int
    tile: int

    @classmethod
    def of(
        cls, unet: Mapping[str, Any], vae: Mapping[str, Any], size: tuple[int, int], *, prompts: int = 2
    ) -> Self:
        """By the configs of a denoiser and an autoencoder, for (width, height) in pixels.

        `prompts` are the ones of a picture that a step is computed for, the negative one among them.
        """
        width, height = size
        channels = vae.get("block_out_channels") or (3,)
        patch = round((int(vae.get("in_channels", 3)) / 3) ** 0.5)
        factor = patch * 2 ** (len(channels) - 1)
        first = int((unet.get("block_out_channels") or (320,))[0])
        largest = int(channels[:2][-1]) * FLOAT_BYTES  # of a pixel: the last upsampling has the second's
        pixels = width * height // patch**2
        tile = min(pixels, TILE_PIXELS**2 // patch**2)
        return cls(
            step=prompts * (width * height // factor**2) * first * FLOAT_BYTES * STEP_LAYERS,
            decode=(pixels if pixels * largest <= WHOLE_BYTES else tile) * largest * DECODER_LAYERS,
            tile=tile * largest * DECODER_LAYERS,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How a request is drawn: `images` at a time, decoded one by one or in tiles, networks taking turns.

    Only `tiled` changes pixels, a little; decode() takes tiles by itself past WHOLE_BYTES.
    """

    images: int
    offload: bool = False
    one_by_one: bool = False
    tiled: bool = False

    def needs(self, model: ModelBytes, work: WorkBytes) -> int:
        """The most memory that drawing takes, weights and all."""
        decoded = 1 if self.one_by_one or self.tiled else self.images
        decode = work.tile if self.tiled else decoded * work.decode
        step = self.images * work.step
        if not self.offload:
            return RESERVE_BYTES + model.total + max(step, decode)
        # The text encoder stays where the memory is; the others take turns.
        return RESERVE_BYTES + max(model.denoiser + step, model.autoencoder + decode)

    def in_words(self, asked: int = 1) -> str:
        """What differs from drawing all of `asked` pictures at once; "" where nothing does."""
        said = {
            f"{self.images} at a time": self.images < asked,
            "one network on the device at a time": self.offload,
            "decoded one by one": self.one_by_one and not self.tiled and self.images > 1,
            "decoded in tiles": self.tiled,
        }
        return ", ".join(words for words, so in said.items() if so)


def choose_plan(
    free_bytes: int, model: ModelBytes, work: WorkBytes, images: int = 1, *, can_offload: bool = False
) -> Plan | None:
    """The plan that changes least of those that fit in `free_bytes`, weights included.

    None where none fits: not even one picture, in tiles. A device with memory of its own `can_offload`.
    """
    plans = _plans(images, can_offload)
    return next((plan for plan in plans if plan.needs(model, work) <= free_bytes), None)


def refusal(free_bytes: int, model: ModelBytes, work: WorkBytes, size: tuple[int, int]) -> str:
    """The sentence for a person whose picture fits in no way."""
    least = min(plan.needs(model, work) for plan in _plans(1, can_offload=False))
    return (
        f"{TOO_LITTLE}: {size[0]} x {size[1]} pixels need about {least / 1e9:.1f} GB with this model, and "
        f"{free_bytes / 1e9:.1f} GB are free; choose a smaller size or model, or close other programs."
    )


def plan_for_folder(folder: Path, free_bytes: int, size: tuple[int, int], can_offload: bool) -> Plan | None:
    """The plan for one picture of a model that is not loaded."""
    unet, vae = (part_config(folder, part) for part in ("unet", "vae"))
    work = WorkBytes.of(unet, vae, size)
    return choose_plan(free_bytes, ModelBytes.of_folder(folder), work, can_offload=can_offload)


def _plans(images: int, can_offload: bool) -> Iterator[Plan]:
    """From what changes least to what needs least."""
    for tiled in (False, True):
        for offload in (False, True) if can_offload else (False,):
            count = images
            while count:
                for one_by_one in (False, True) if count > 1 and not tiled else (False,):
                    yield Plan(images=count, offload=offload, one_by_one=one_by_one, tiled=tiled)
                count //= 2
