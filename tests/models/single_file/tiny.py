"""Random models of each family at toy size, in memory, as diffusers' folder and as a single file."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    StableDiffusionInpaintPipeline,
    StableDiffusionPipeline,
    StableDiffusionXLInpaintPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

from models.autoencoder import Autoencoder
from models.defaults import GenerationDefaults, ImageCondition
from models.denoiser import Denoiser
from models.latent_diffusion import LatentDiffusionModel
from models.single_file.checkpoint import TOKENIZER
from models.single_file.write import write_single_file
from models.text_encoder import TextEncoder
from models.text_pair import TextEncoderPair

SIDE = 64
PROCESS: dict[str, Any] = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}
PROCESS |= {"clip_sample": False, "steps_offset": 1}


@dataclass(frozen=True)
class Kind:
    """What the families differ in."""

    act: str
    pad: str
    scaling_factor: float
    unet: dict[str, Any]
    prediction: str = "epsilon"
    channels: int = 4


LEVELS = {
    "block_out_channels": (32, 64, 64, 64),
    "down_block_types": ("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",),
    "up_block_types": ("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3,
    "cross_attention_dim": 32,
}
SD1 = {**LEVELS, "attention_head_dim": 8}
SD2 = {**LEVELS, "attention_head_dim": [1, 1, 1, 1], "use_linear_projection": True}
SDXL = {
    "block_out_channels": (32, 64, 64),
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
    "cross_attention_dim": 32 + 64,
    "transformer_layers_per_block": [1, 1, 2],
    "attention_head_dim": [1, 1, 1],
    "use_linear_projection": True,
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 8,
    "projection_class_embeddings_input_dim": 48 + 6 * 8,
}
KINDS = {
    "sd1": Kind("quick_gelu", "<|endoftext|>", 0.18215, SD1),
    "sd1 inpaint": Kind("quick_gelu", "<|endoftext|>", 0.18215, SD1, channels=9),
    "sd1 v": Kind("quick_gelu", "<|endoftext|>", 0.18215, SD1, "v_prediction"),
    "sd2": Kind("gelu", "!", 0.18215, SD2, "v_prediction"),
    "sd2 epsilon": Kind("gelu", "!", 0.18215, SD2),
    "sd2 inpaint": Kind("gelu", "!", 0.18215, SD2, channels=9),
    "sdxl": Kind("quick_gelu", "<|endoftext|>", 0.13025, SDXL),
    "sdxl inpaint": Kind("quick_gelu", "<|endoftext|>", 0.13025, SDXL, channels=9),
}

# One of each family, an inpainting one among them; the others take as long each.
USUAL = ("sd1 inpaint", "sd2", "sdxl")
KINDS_TO_LOAD = [
    pytest.param(name, marks=pytest.mark.slow if name in USUAL else pytest.mark.exhaustive) for name in KINDS
]


def is_xl(name: str) -> bool:
    return name.startswith("sdxl")


def tiny_vae(scaling_factor: float = 0.18215, seed: int = 1) -> AutoencoderKL:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return AutoencoderKL(
            block_out_channels=(32, 32, 64, 64),
            down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4,
            latent_channels=4,
            scaling_factor=scaling_factor,
        )


def clip_config(act: str, width: int = 32, **more: Any) -> CLIPTextConfig:
    return CLIPTextConfig(
        vocab_size=49408,
        hidden_size=width,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=1,
        hidden_act=act,
        **more,
    )


def halved(module: Any) -> Any:
    """With weights that half precision holds exactly, so that a file is no rounding."""
    return module.half().float().eval().requires_grad_(False)


def tiny_parts(name: str) -> dict[str, Any]:
    """The parts of a diffusers pipeline."""
    kind = KINDS[name]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        unet = UNet2DConditionModel(
            in_channels=kind.channels, sample_size=SIDE // 8, layers_per_block=1, **kind.unet
        )
        text_encoder = CLIPTextModel(clip_config(kind.act))
        second = CLIPTextModelWithProjection(clip_config("gelu", 64, projection_dim=48))
    tokenizer = CLIPTokenizer.from_pretrained(TOKENIZER, pad_token=kind.pad)
    more = {}
    if is_xl(name):
        second_tokenizer = CLIPTokenizer.from_pretrained(TOKENIZER, pad_token="!")
        more = {"text_encoder_2": halved(second), "tokenizer_2": second_tokenizer}
    return {
        **more,
        "unet": halved(unet),
        "vae": halved(tiny_vae(kind.scaling_factor)),
        "text_encoder": halved(text_encoder),
        "tokenizer": tokenizer,
        "scheduler": DDIMScheduler(**PROCESS, prediction_type=kind.prediction),
    }


def tiny_pipeline(name: str) -> Any:
    if is_xl(name):
        xl = StableDiffusionXLInpaintPipeline if KINDS[name].channels == 9 else StableDiffusionXLPipeline
        return xl(**tiny_parts(name), add_watermarker=False)
    parts = {**tiny_parts(name), "safety_checker": None, "feature_extractor": None}
    kind = StableDiffusionInpaintPipeline if KINDS[name].channels == 9 else StableDiffusionPipeline
    return kind(**parts, requires_safety_checker=False)


def tiny_model(name: str) -> LatentDiffusionModel:
    parts = tiny_parts(name)
    text_encoder = TextEncoder(parts["text_encoder"], parts["tokenizer"])
    if is_xl(name):
        second = TextEncoder(parts["text_encoder_2"], parts["tokenizer_2"])
        text_encoder = TextEncoderPair(text_encoder, second)
    return LatentDiffusionModel(
        name=name,
        path=Path(name),
        model_id="0123456789",
        autoencoder=Autoencoder(parts["vae"]).eval(),
        denoiser=Denoiser.from_scheduler_config(parts["unet"], parts["scheduler"].config),
        text_encoder=text_encoder,
        defaults=GenerationDefaults(width=SIDE, height=SIDE),
        preview=None,
        image_condition=ImageCondition("inpaint") if KINDS[name].channels == 9 else None,
    )


def tiny_file(name: str, path: Path) -> Path:
    write_single_file(tiny_model(name), path)
    return path
