"""The families of Stable Diffusion at toy size, as folders that diffusers' own pipelines write."""

from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderKL,
    EulerDiscreteScheduler,
    StableDiffusionInpaintPipeline,
    StableDiffusionPipeline,
    StableDiffusionXLInpaintPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

SIDE_PIXELS = 64
TOKENS = 12
PROCESS: dict[str, Any] = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
PROCESS |= {"steps_offset": 1}
LETTERS = [letter + end for letter in map(chr, range(33, 127)) for end in ("", "</w>")]
VOCABULARY = ["<|startoftext|>", *LETTERS, "<|endoftext|>"]
# What the families differ in: prediction, hidden_act, the token that fills a prompt, channels of the UNet.
FAMILIES: dict[str, tuple[str, str, str, int]] = {
    "sd1": ("epsilon", "quick_gelu", "<|endoftext|>", 4),
    "sd1-inpaint": ("epsilon", "quick_gelu", "<|endoftext|>", 9),
    "sd2": ("v_prediction", "gelu", "!", 4),
    "sd2-inpaint": ("epsilon", "gelu", "!", 9),
    "sdxl": ("epsilon", "quick_gelu", "<|endoftext|>", 4),
    "sdxl-inpaint": ("epsilon", "quick_gelu", "<|endoftext|>", 9),
}


def make_model(family: str, path: Path, **index: Any) -> Path:
    """Write a random folder for 64 px pictures, latents 4 x 8 x 8; `index` are settings of SDXL's."""
    prediction, act, pad, channels = FAMILIES[family]
    is_xl, inpaints = family.startswith("sdxl"), channels == 9
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        parts: dict[str, Any] = {
            "vae": _vae(0.13025 if is_xl else 0.18215),
            "text_encoder": CLIPTextModel(_text_config(act, 16)),
            "tokenizer": _tokenizer(pad),
            "unet": _unet(channels, family),
            "scheduler": EulerDiscreteScheduler(**PROCESS, prediction_type=prediction),
        }
        if is_xl:
            second = _text_config("gelu", 24, projection_dim=20)
            parts["text_encoder_2"] = CLIPTextModelWithProjection(second)
            parts["tokenizer_2"] = _tokenizer("!")
    if is_xl:
        kind = StableDiffusionXLInpaintPipeline if inpaints else StableDiffusionXLPipeline
        kind(**parts, add_watermarker=False, **index).save_pretrained(path)
    else:
        plain = StableDiffusionInpaintPipeline if inpaints else StableDiffusionPipeline
        plain(
            **parts, safety_checker=None, feature_extractor=None, requires_safety_checker=False
        ).save_pretrained(path)
    return path


def _tokenizer(pad: str) -> CLIPTokenizer:
    numbers = {token: number for number, token in enumerate(VOCABULARY)}
    return CLIPTokenizer(vocab=numbers, merges=[], model_max_length=TOKENS, pad_token=pad)


def _text_config(act: str, width: int, **more: Any) -> CLIPTextConfig:
    return CLIPTextConfig(
        vocab_size=len(VOCABULARY),
        hidden_size=width,
        intermediate_size=24,
        num_hidden_layers=3,
        num_attention_heads=2,
        max_position_embeddings=TOKENS,
        hidden_act=act,
        bos_token_id=0,
        eos_token_id=len(VOCABULARY) - 1,
        **more,
    )


def _vae(scaling_factor: float) -> AutoencoderKL:
    """One that is all but sure of its latents: diffusers draws a sample of them, we take the mode."""
    vae = AutoencoderKL(
        block_out_channels=(8, 8, 8, 8),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        latent_channels=4,
        norm_num_groups=4,
        scaling_factor=scaling_factor,
    )
    with torch.no_grad():
        vae.quant_conv.weight[4:] = 0
        vae.quant_conv.bias[4:] = -30
    return vae


def _unet(channels: int, family: str) -> UNet2DConditionModel:
    settings: dict[str, Any] = {"cross_attention_dim": 16, "attention_head_dim": 2}
    if not family.startswith("sd1"):
        settings |= {"use_linear_projection": True, "attention_head_dim": [2, 4]}
    if family.startswith("sdxl"):
        settings |= {
            "cross_attention_dim": 16 + 24,
            "transformer_layers_per_block": [1, 2],
            "addition_embed_type": "text_time",
            "addition_time_embed_dim": 8,
            "projection_class_embeddings_input_dim": 20 + 6 * 8,
        }
    return UNet2DConditionModel(
        in_channels=channels,
        out_channels=4,
        sample_size=SIDE_PIXELS // 8,
        block_out_channels=(16, 32),
        layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        norm_num_groups=8,
        **settings,
    )
