"""diffusers' own pipelines at toy size: real classes and random weights, of Stable Diffusion 1 and XL."""

from typing import Any

import numpy as np
import torch
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from torch import nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

from tests.models.families import family_tokenizer

WIDTH = 32  # of a token in each text encoder


def stable_diffusion(seed: int = 0) -> Any:
    """A StableDiffusionPipeline with a UNet of two levels, convolutions around its transformers."""
    torch.manual_seed(seed)
    unet = UNet2DConditionModel(
        **_unet(),
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        attention_head_dim=2,
        cross_attention_dim=WIDTH,
    )
    pipeline = StableDiffusionPipeline(
        vae=_vae(),
        unet=unet,
        text_encoder=CLIPTextModel(_text()),
        tokenizer=family_tokenizer("clip_text_model"),
        scheduler=_scheduler(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    return _ready(pipeline)


def stable_diffusion_xl(seed: int = 0) -> Any:
    """A StableDiffusionXLPipeline with two text encoders, linear layers around its transformers."""
    torch.manual_seed(seed)
    unet = UNet2DConditionModel(
        **_unet(),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        attention_head_dim=(2, 4),
        transformer_layers_per_block=(1, 2),
        use_linear_projection=True,
        cross_attention_dim=2 * WIDTH,
        addition_embed_type="text_time",
        addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=6 * 8 + WIDTH,
    )
    pipeline = StableDiffusionXLPipeline(
        vae=_vae(),
        unet=unet,
        text_encoder=CLIPTextModel(_text()),
        text_encoder_2=CLIPTextModelWithProjection(_text(projection_dim=WIDTH)),
        tokenizer=family_tokenizer("clip_text_model"),
        tokenizer_2=family_tokenizer("clip_text_model"),
        scheduler=_scheduler(),
        add_watermarker=False,
    )
    return _ready(pipeline)


def draw(pipeline: Any, **asked: Any) -> "np.ndarray[Any, Any]":
    """The pixels in [0, 1] of two steps from one seed."""
    if "prompt_embeds" not in asked:
        asked = {"prompt": "a dog", "negative_prompt": "red"} | asked
    generator = torch.Generator().manual_seed(3)
    settings = {"num_inference_steps": 2, "guidance_scale": 3.0, "width": 16, "height": 16}
    drawn = pipeline(generator=generator, output_type="np", **(settings | asked))
    images: np.ndarray[Any, Any] = drawn.images
    return images


def _unet() -> dict[str, Any]:
    return {
        "in_channels": 4,
        "out_channels": 4,
        "block_out_channels": (16, 32),
        "layers_per_block": 2,
        "norm_num_groups": 8,
        "sample_size": 8,
    }


def _vae() -> Any:
    return AutoencoderKL(
        block_out_channels=(8, 8),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        latent_channels=4,
        norm_num_groups=4,
    )


def _text(**more: Any) -> CLIPTextConfig:
    tokenizer = family_tokenizer("clip_text_model")
    return CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=WIDTH,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=48,
        max_position_embeddings=12,
        bos_token_id=0,
        eos_token_id=1,
        **more,
    )


def _scheduler() -> Any:
    return DDIMScheduler(
        beta_schedule="scaled_linear",
        beta_start=0.00085,
        beta_end=0.012,
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
    )


def _ready(pipeline: Any) -> Any:
    for part in pipeline.components.values():
        if isinstance(part, nn.Module):
            for parameter in part.parameters():
                if parameter.ndim > 1:  # so that prompts and steps count
                    nn.init.normal_(parameter, std=0.1)
            part.eval().requires_grad_(False)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline
