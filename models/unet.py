"""Stage 2 of latent diffusion: the denoising UNet with cross-attention (Rombach et al. 2022, section 3.2)."""

from typing import Any

import torch.nn.functional as F
from diffusers.models.resnet import ResnetBlock2D
from diffusers.models.transformers.transformer_2d import Transformer2DModel
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from torch import nn

from models.errors import ConfigError

# `attention_head_dim` is the NUMBER of heads in this class of diffusers: 32 channels a head in the small
# sizes, 64 in the large ones.
PRESETS: dict[str, dict[str, Any]] = {
    "tiny": {
        "block_out_channels": (32, 64),
        "layers_per_block": 1,
        "attention_head_dim": (1, 2),
        "norm_num_groups": 8,
    },
    "tiny-pixels": {  # as many parameters and the same coarsest levels, on pixels
        "block_out_channels": (16, 16, 32, 64),
        "layers_per_block": 1,
        "attention_head_dim": (1, 1, 1, 2),
        "norm_num_groups": 8,
        "attention": (False, False, False, True),
    },
    "small": {
        "block_out_channels": (64, 96),
        "layers_per_block": 1,
        "attention_head_dim": (2, 3),
        "attention": (True, True),
    },
    "small-pixels": {  # likewise
        "block_out_channels": (32, 32, 64, 96),
        "layers_per_block": 1,
        "attention_head_dim": (1, 1, 2, 3),
        "attention": (False, False, True, True),
    },
    "starter": {
        "block_out_channels": (96, 192, 256),
        "layers_per_block": 1,
        "attention_head_dim": (3, 6, 8),
    },
    "medium": {
        "block_out_channels": (160, 320, 416),
        "layers_per_block": 1,
        "attention_head_dim": (5, 10, 13),
    },
    "one-gpu": {
        "block_out_channels": (256, 512, 768),
        "layers_per_block": 2,
        "attention_head_dim": (4, 8, 12),
    },
    "many-gpu": {
        "block_out_channels": (320, 640, 960, 1280),
        "layers_per_block": 2,
        "attention_head_dim": (5, 10, 15, 20),
    },
}


def build_unet(
    preset: str, latent_channels: int, text_dim: int, dropout: float = 0.0, shown_channels: int = 0
) -> UNet2DConditionModel:
    """An untrained denoiser of a named size, for text states of `text_dim` numbers a token.

    `shown_channels` of an image condition follow the latents' own in its input.
    Token states enter by cross-attention, below the finest level where the preset does not say at which
    levels; their pooled mean joins the time embedding, which scales and shifts every residual block.

    Raises: ConfigError for an unknown preset.
    """
    if preset not in PRESETS:
        raise ConfigError(f"unknown UNet preset {preset!r}; choose from {', '.join(PRESETS)}")
    sizes = dict(PRESETS[preset])
    attention = sizes.pop("attention", (False, *(True,) * (len(sizes["block_out_channels"]) - 1)))
    unet = UNet2DConditionModel(
        in_channels=latent_channels + shown_channels,
        out_channels=latent_channels,
        down_block_types=tuple("CrossAttnDownBlock2D" if has else "DownBlock2D" for has in attention),
        up_block_types=tuple("CrossAttnUpBlock2D" if has else "UpBlock2D" for has in reversed(attention)),
        cross_attention_dim=text_dim,
        class_embed_type="simple_projection",
        projection_class_embeddings_input_dim=text_dim,
        resnet_time_scale_shift="scale_shift",
        dropout=dropout,
        **sizes,
    )
    zero_outputs(unet)
    return unet


def add_inputs(unet: UNet2DConditionModel, channels: int) -> None:
    """Give a denoiser `channels` more input channels, which have no effect before they are trained."""
    conv = unet.conv_in
    weight = F.pad(conv.weight.detach(), (0, 0, 0, 0, 0, channels))  # (C_out, C_in + channels, 3, 3)
    conv.weight, conv.in_channels = nn.Parameter(weight), weight.shape[1]
    unet.register_to_config(in_channels=weight.shape[1])


def zero_outputs(unet: UNet2DConditionModel) -> None:
    """Let every residual branch and the output start at zero, as LDM and ADM do and diffusers does not."""
    last_layers: list[nn.Module] = [unet.conv_out]
    for module in unet.modules():
        if isinstance(module, ResnetBlock2D):
            last_layers.append(module.conv2)
        elif isinstance(module, Transformer2DModel):
            last_layers.append(module.proj_out)
    for layer in last_layers:
        nn.init.zeros_(layer.weight)  # type: ignore[arg-type]
        nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
