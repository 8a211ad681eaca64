"""Cross-attention with its softmax written out, so that its weights can be looked at.

softmax(Q K^T / sqrt(d)) of Rombach et al. 2022, section 3.3; fused kernels never form it.
"""

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.denoiser import UNetRunner
from models.text_encoder import TextStates
from pipelines.runners.attention import cross_attentions, processors

MIN_SIDE = 8  # what coarser layers look at is not where the things are: evaluation/word_maps.py


class ExplicitAttention:
    """A processor of diffusers' Attention that hands its weights (B, N, T), the mean over heads, to `keep`.

    N are the places of the layer's latents, row by row, T the tokens; each place's weights sum to 1.
    """

    def __init__(self, keep: Callable[[Tensor], None]) -> None:
        self._keep = keep

    def __call__(
        self,
        attn: Any,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor,
        attention_mask: Tensor | None = None,
    ) -> Tensor:
        """Attention of latents (B, N, C) to token states (B, T, D), with a mask (B, 1, T) that is added."""
        if attention_mask is not None:
            attention_mask = attn.prepare_attention_mask(
                attention_mask, encoder_hidden_states.shape[1], len(hidden_states)
            )  # (B heads, 1, T)
        query = attn.head_to_batch_dim(attn.to_q(hidden_states))  # (B heads, N, d)
        key = attn.head_to_batch_dim(attn.to_k(encoder_hidden_states))  # (B heads, T, d)
        value = attn.head_to_batch_dim(attn.to_v(encoder_hidden_states))  # (B heads, T, d)
        weights = attn.get_attention_scores(query, key, attention_mask)  # (B heads, N, T)
        self._keep(weights.unflatten(0, (-1, attn.heads)).mean(1))  # (B, N, T)
        mixed = attn.batch_to_head_dim(weights @ value)  # (B, N, C)
        output: Tensor = attn.to_out[1](attn.to_out[0](mixed))
        return output


@contextmanager
def explicit_attention(unet: nn.Module) -> Iterator[dict[str, Tensor]]:
    """Within this context cross-attention is written out; gives its weights (B, N, T) by layer, newest call.

    The processors that were there come back at the end, whatever happens.
    """
    layers, weights = cross_attentions(unet), dict[str, Tensor]()
    explicit = {name: ExplicitAttention(partial(weights.__setitem__, name)) for name in layers}
    with processors(layers, explicit):
        yield weights


def token_maps(weights: dict[str, Tensor], size: tuple[int, int]) -> Tensor:
    """One map of each token, (B, T, h, w), of the weights of all layers; `size` (h, w) is the latents'.

    The mean over the layers with at least MIN_SIDE places a side, or of the finest ones where none has, each
    brought to the size of the finest by bilinear interpolation: the maps of all tokens still sum to 1 at each
    place.
    """
    height, width = size
    places: dict[int, tuple[int, int]] = {}  # of the levels, each of half the sides, rounded up
    while height * width not in places:
        places[height * width] = (height, width)
        height, width = -(-height // 2), -(-width // 2)
    finest = places[max(layer.shape[1] for layer in weights.values())]
    maps = []
    for layer in weights.values():
        side = places[layer.shape[1]]
        if side == finest or min(side) >= MIN_SIDE:
            own = layer.float().transpose(1, 2).reshape(len(layer), -1, *side)  # (B, T, h, w)
            maps.append(F.interpolate(own, finest, mode="bilinear"))
    return torch.stack(maps).mean(0)


class AttentionRunner:
    """A runner on torch in float32 that keeps the maps of each call until they are taken.

    A UNet of another precision is copied. Its processors are changed during a call alone, so nobody else who
    runs the same UNet meets them.
    """

    def __init__(self, unet: nn.Module) -> None:
        exact = next(unet.parameters()).dtype is torch.float32
        self.unet = unet if exact else copy.deepcopy(unet).float()
        self._run = UNetRunner(self.unet)
        self._calls: list[Tensor] = []

    def __call__(self, z: Tensor, t: Tensor, states: TextStates) -> Tensor:
        """Model output (B, C, h, w) in z's own precision."""
        with explicit_attention(self.unet) as weights:
            output = self._run(z, t, states)
        height, width = z.shape[-2:]
        self._calls.append(token_maps(weights, (height, width)).cpu())
        return output

    def take(self) -> Tensor:
        """The maps (B, T, h, w) of the calls since they were last taken, their mean, and forget them."""
        maps = torch.stack(self._calls).mean(0)
        self._calls.clear()
        return maps
