"""Pictures whose edges fit together, and the decoding of large ones in parts."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.autoencoder import Autoencoder

WHOLE_PIXELS = 768 * 768  # up to here a picture is decoded at once
TILE_PIXELS, OVERLAP_PIXELS = 512, 128


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
    whole_pixels: int = WHOLE_PIXELS,
    tile_pixels: int = TILE_PIXELS,
    overlap_pixels: int = OVERLAP_PIXELS,
) -> Tensor:
    """Pixels (B, 3, H, W) of normalised latents (B, C, h, w); above `whole_pixels` in overlapping tiles."""
    factor = autoencoder.downsampling_factor
    if latents[0, 0].numel() * factor**2 <= whole_pixels:
        with circular(autoencoder.vae, seamless):
            return autoencoder.decode(latents)
    overlap = max(1, overlap_pixels // factor)
    tile = max(2 * overlap, tile_pixels // factor)
    if not seamless:
        return _decode_tiles(autoencoder, latents, tile, overlap)
    ring = F.pad(latents, (overlap,) * 4, mode="circular")  # (B, C, h + 2o, w + 2o)
    cut = overlap * factor
    return _decode_tiles(autoencoder, ring, tile, overlap)[..., cut:-cut, cut:-cut]


def _decode_tiles(autoencoder: Autoencoder, latents: Tensor, tile: int, overlap: int) -> Tensor:
    """Tiles of `tile` latents a side, each fading into the next over `overlap` of them."""
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


def _places(length: int, tile: int, overlap: int) -> list[int]:
    """Where tiles begin that cover a length, the last one ending with it."""
    last = max(0, length - tile)
    return [*range(0, last, tile - overlap), last]


def _fade(length: int, overlap: int) -> Tensor:
    """Weights (length,) of a tile's pixels: rising over the overlap, 1 in the middle, falling again."""
    place = torch.arange(1, length + 1, dtype=torch.float32)
    return torch.minimum(place, length + 1 - place).clamp(max=overlap) / overlap
