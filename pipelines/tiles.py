"""Pictures whose edges fit together, and the decoding of large ones in parts."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.autoencoder import Autoencoder
from pipelines.memory import TILE_PIXELS, WHOLE_BYTES

Decode = Callable[[Tensor], Tensor]  # normalised latents (B, C, h, w) to pixels (B, 3, H, W)
Statistics = tuple[Tensor, Tensor]  # mean and variance of each group
OVERLAP_PIXELS = 128


@contextmanager
def circular(network: nn.Module, on: bool = True) -> Iterator[None]:
    """Within this context every convolution sees, beyond an edge, the opposite one: the picture is a ring."""
    convolutions = [module for module in network.modules() if isinstance(module, nn.Conv2d)] if on else []
    before = [convolution.padding_mode for convolution in convolutions]
    try:
        for convolution in convolutions:
            convolution.padding_mode = "circular"
        yield
    finally:
        for convolution, mode in zip(convolutions, before, strict=True):
            convolution.padding_mode = mode


def decode(
    autoencoder: Autoencoder,
    latents: Tensor,
    seamless: bool = False,
    whole: Decode | None = None,
    whole_bytes: int = WHOLE_BYTES,
    tile_pixels: int = TILE_PIXELS,
    overlap_pixels: int = OVERLAP_PIXELS,
) -> Tensor:
    """Pixels (B, 3, H, W) of normalised latents (B, C, h, w); in overlapping tiles where that is too large.

    Every tile is normalised (GroupNorm) by the statistics of the whole picture made small: by its own it
    would have other colours than its neighbours. What needs no tiles `whole` decodes, where it is given.
    """
    factor = autoencoder.downsampling_factor
    if layer_bytes(autoencoder, latents[:, :1].numel(), latents.element_size()) <= whole_bytes:
        if whole is not None:
            return whole(latents)
        with circular(autoencoder.vae, seamless):
            return autoencoder.decode(latents)
    overlap = max(1, overlap_pixels // factor)
    tile = max(2 * overlap, tile_pixels // factor)
    if not seamless:
        return _decode_tiles(autoencoder, latents, tile, overlap)
    ring = F.pad(latents, (overlap,) * 4, mode="circular")  # (B, C, h + 2o, w + 2o)
    cut = overlap * factor
    return _decode_tiles(autoencoder, ring, tile, overlap)[..., cut:-cut, cut:-cut]


def layer_bytes(autoencoder: Autoencoder, places: int, number_bytes: int = 4) -> int:
    """The size of a decoder's largest layer for so many places of latents, in all pictures of a batch."""
    channels: int = autoencoder.vae.config.block_out_channels[:2][-1]  # the last upsampling has the second's
    scale: int = autoencoder.downsampling_factor // autoencoder.patch_size
    return places * scale * scale * channels * number_bytes


def _decode_tiles(autoencoder: Autoencoder, latents: Tensor, tile: int, overlap: int) -> Tensor:
    """Tiles of `tile` latents a side, each fading into the next over `overlap` of them."""
    seen: dict[nn.Module, Statistics] = {}
    shrunk = [max(1, round(side * tile / max(latents.shape[-2:]))) for side in latents.shape[-2:]]
    with _group_norms(autoencoder.vae, partial(_record, seen)):
        autoencoder.decode(F.interpolate(latents, shrunk, mode="bilinear", antialias=True))
    with _group_norms(autoencoder.vae, partial(_normalise, seen)):
        return _blend_tiles(autoencoder, latents, tile, overlap)


def _blend_tiles(autoencoder: Autoencoder, latents: Tensor, tile: int, overlap: int) -> Tensor:
    factor = autoencoder.downsampling_factor
    count, _, height, width = latents.shape
    pixels = latents.new_zeros(count, 3, height * factor, width * factor)
    weights = latents.new_zeros(height * factor, width * factor)
    for top in _places(height, tile, overlap):
        for left in _places(width, tile, overlap):
            part = autoencoder.decode(latents[..., top : top + tile, left : left + tile])
            high, wide = part.shape[-2:]
            weight = _fade(high, overlap * factor).to(part)[:, None] * _fade(wide, overlap * factor).to(part)
            rows = slice(top * factor, top * factor + high)
            columns = slice(left * factor, left * factor + wide)
            pixels[..., rows, columns] += part * weight
            weights[rows, columns] += weight
    return pixels / weights


@contextmanager
def _group_norms(network: nn.Module, hook: Callable[..., Tensor | None]) -> Iterator[None]:
    """Within this context a hook is called with (GroupNorm, arguments, output) and may replace the last."""
    norms = [module for module in network.modules() if isinstance(module, nn.GroupNorm)]
    handles = [norm.register_forward_hook(hook) for norm in norms]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _record(
    seen: dict[nn.Module, Statistics], norm: nn.GroupNorm, args: tuple[Tensor], output: Tensor
) -> None:
    groups = args[0].reshape(len(output), norm.num_groups, -1)  # (B, G, C / G * positions)
    seen[norm] = groups.mean(2, keepdim=True), groups.var(2, keepdim=True, unbiased=False)


def _normalise(
    seen: dict[nn.Module, Statistics], norm: nn.GroupNorm, args: tuple[Tensor], output: Tensor
) -> Tensor:
    mean, variance = seen[norm]  # (B, G, 1)
    groups = args[0].reshape(len(output), norm.num_groups, -1)
    normal = ((groups - mean) * (variance + norm.eps).rsqrt()).view_as(output)
    shape = (-1, *[1] * (output.ndim - 2))
    weighted: Tensor = normal * norm.weight.view(shape) + norm.bias.view(shape)
    return weighted


def _places(length: int, tile: int, overlap: int) -> list[int]:
    """Where tiles begin that cover a length, the last one ending with it."""
    last = max(0, length - tile)
    return [*range(0, last, tile - overlap), last]


def _fade(length: int, overlap: int) -> Tensor:
    """Weights (length,) of a tile's pixels: rising over the overlap, 1 in the middle, falling again."""
    place = torch.arange(1, length + 1, dtype=torch.float32)
    return torch.minimum(place, length + 1 - place).clamp(max=overlap) / overlap
