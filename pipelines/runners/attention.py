"""Cross-attention for many steps of one prompt, and processors exchanged for a while."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch.nn.functional as F
from diffusers.models.attention_processor import Attention, AttnProcessor2_0
from torch import Tensor, nn


class PromptAttention:
    """A processor of diffusers' Attention, for one layer, that keeps the keys and values of the prompt.

    They are computed anew for other token states, by identity, and for other weights: a LoRA brings its own.
    The same numbers, to the bit, as AttnProcessor2_0 gives.
    """

    def __init__(self) -> None:
        self._of: tuple[Any, ...] = ()
        self._kept: tuple[Tensor, Tensor] | None = None

    def __call__(
        self,
        attn: Any,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor,
        attention_mask: Tensor | None = None,
    ) -> Tensor:
        """Attention of latents (B, N, C) to token states (B, T, D), with a mask (B, 1, T) that is added."""

        def heads(x: Tensor) -> Tensor:
            return x.view(*x.shape[:2], attn.heads, -1).transpose(1, 2)  # (B, heads, N or T, d)

        of = (encoder_hidden_states, attn.to_k.weight, attn.to_v.weight)
        if self._kept is None or any(new is not old for new, old in zip(of, self._of, strict=True)):
            self._kept = heads(attn.to_k(encoder_hidden_states)), heads(attn.to_v(encoder_hidden_states))
            self._of = of
        key, value = self._kept
        mask = None if attention_mask is None else attention_mask[:, None]  # (B, 1, 1, T)
        query = heads(attn.to_q(hidden_states))
        mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=mask)  # (B, heads, N, d)
        output: Tensor = attn.to_out[1](attn.to_out[0](mixed.transpose(1, 2).flatten(2)))  # (B, N, C)
        return output


def cross_attentions(unet: nn.Module) -> dict[str, Any]:
    """The layers of a UNet that attend to the prompt, by name."""
    return {
        name: module
        for name, module in unet.named_modules()
        if name.endswith("attn2") and isinstance(module, Attention)
    }


def plain(attention: Any) -> bool:
    """Whether a layer of a transformer block is nothing but softmax(Q K^T / sqrt(d)) V on torch's kernel."""
    return (
        isinstance(attention.processor, AttnProcessor2_0)
        and not attention.norm_cross
        and attention.norm_q is None
        and attention.norm_k is None
    )


@contextmanager
def processors(layers: Mapping[str, Any], others: Mapping[str, Any]) -> Iterator[None]:
    """Within this context layers have other processors; theirs come back at the end, whatever happens."""
    before = {name: layers[name].processor for name in others}
    try:
        for name, processor in others.items():
            layers[name].set_processor(processor)
        yield
    finally:
        for name, processor in before.items():
            layers[name].set_processor(processor)
