"""Stable Diffusion's own classes at toy size, as diffusers saves them: CLIP, epsilon, no class embedding."""

from pathlib import Path

import torch
from diffusers import AutoencoderKL, PNDMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

SIDE_PIXELS = 32


def make_stock_model(path: Path) -> Path:
    """Write a random Stable Diffusion folder for 32 px pictures, latents 4 x 8 x 8; returns `path`."""
    letters = [letter + end for letter in map(chr, range(33, 127)) for end in ("", "</w>")]
    tokens = ["<|startoftext|>", "<|endoftext|>", *letters]
    tokenizer = CLIPTokenizer(
        vocab={token: n for n, token in enumerate(tokens)}, merges=[], model_max_length=12
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        text_config = CLIPTextConfig(
            vocab_size=len(tokens),
            hidden_size=16,
            intermediate_size=24,
            num_hidden_layers=2,
            num_attention_heads=2,
            max_position_embeddings=12,
            bos_token_id=0,
            eos_token_id=1,
        )
        pipeline = StableDiffusionPipeline(
            vae=AutoencoderKL(
                block_out_channels=(8, 8, 8),
                down_block_types=("DownEncoderBlock2D",) * 3,
                up_block_types=("UpDecoderBlock2D",) * 3,
                latent_channels=4,
                norm_num_groups=4,
                scaling_factor=0.18215,
            ),
            text_encoder=CLIPTextModel(text_config),
            tokenizer=tokenizer,
            unet=UNet2DConditionModel(
                sample_size=SIDE_PIXELS // 4,
                block_out_channels=(16, 32),
                layers_per_block=1,
                down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
                up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
                cross_attention_dim=16,
                attention_head_dim=2,
                norm_num_groups=8,
            ),
            scheduler=PNDMScheduler(
                beta_start=0.00085,
                beta_end=0.012,
                beta_schedule="scaled_linear",
                skip_prk_steps=True,
                steps_offset=1,
            ),
            safety_checker=None,
            feature_extractor=None,
            requires_safety_checker=False,
        )
    pipeline.save_pretrained(path)
    return path
