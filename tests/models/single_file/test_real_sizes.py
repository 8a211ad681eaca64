"""The files that people have, by the shapes of their tensors: published configs and counts, no weights."""

from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from diffusers.loaders.single_file_utils import infer_diffusers_model_type
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

from models.single_file import families
from models.single_file.checkpoint import describe
from models.single_file.families import Family
from models.single_file.write import ldm_tensors
from models.weights import TensorEntry

CROSS = {
    "block_out_channels": (320, 640, 1280, 1280),
    "down_block_types": ("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",),
    "up_block_types": ("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3,
}
SD1 = {**CROSS, "cross_attention_dim": 768, "attention_head_dim": 8}
SD2 = {
    **CROSS,
    "cross_attention_dim": 1024,
    "attention_head_dim": [5, 10, 20, 20],
    "use_linear_projection": True,
}
XL = {
    "block_out_channels": (320, 640, 1280),
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
    "cross_attention_dim": 2048,
    "transformer_layers_per_block": [1, 2, 10],
    "attention_head_dim": [5, 10, 20],
    "use_linear_projection": True,
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 256,
    "projection_class_embeddings_input_dim": 2816,
}
CLIP_L = {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12}
CLIP_H = {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24, "num_attention_heads": 16}
CLIP_G = {"hidden_size": 1280, "intermediate_size": 5120, "num_hidden_layers": 32, "num_attention_heads": 20}
# As diffusers names it, the configs of its parts, and the parameters that its authors' files have.
PUBLISHED: dict[str, tuple[Family, dict[str, Any], list[dict[str, Any]], dict[str, int]]] = {
    "v1": (families.SD1, SD1, [CLIP_L], {"unet": 859_520_964, "text_encoder": 123_060_480}),
    "inpainting": (families.SD1, {**SD1, "in_channels": 9}, [CLIP_L], {"unet": 859_535_364}),
    # of its 24 layers the last is not read
    "v2": (families.SD2, SD2, [CLIP_H], {"unet": 865_910_724, "text_encoder": 340_387_840}),
    "xl_base": (
        families.SDXL,
        XL,
        [CLIP_L, {**CLIP_G, "projection_dim": 1280}],
        {"unet": 2_567_463_684, "text_encoder": 123_060_480, "text_encoder_2": 694_659_840},
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", PUBLISHED)
def test_published_models_are_known_to_the_last_tensor(kind: str) -> None:
    family, unet, encoders, published = PUBLISHED[kind]
    with torch.device("meta"):
        networks: dict[str, Any] = {
            "unet": UNet2DConditionModel(**unet),
            "vae": AutoencoderKL(
                block_out_channels=(128, 256, 512, 512),
                down_block_types=("DownEncoderBlock2D",) * 4,
                up_block_types=("UpDecoderBlock2D",) * 4,
                layers_per_block=2,
            ),
        }
        for part, settings in zip(family.encoders, encoders, strict=True):
            clip = CLIPTextModelWithProjection if "projection_dim" in settings else CLIPTextModel
            networks[part] = clip(CLIPTextConfig(vocab_size=49408, **settings))
        tensors = ldm_tensors(networks, family)
    assert infer_diffusers_model_type(tensors) == kind
    entries = {name: TensorEntry("F16", tuple(tensor.shape)) for name, tensor in tensors.items()}
    found = describe(Path("a.safetensors"), entries, {})
    assert found.family is family
    for part, count in {**published, "vae": 83_653_863}.items():
        assert found.parts[part].parameters == count
    for key, value in unet.items():
        wanted = [8] * 4 if value == 8 else value
        assert found.parts["unet"].config[key] == (list(wanted) if isinstance(wanted, tuple) else wanted)
    for part, settings in zip(family.encoders, encoders, strict=True):
        config = found.parts[part].config
        layers = 23 if family is families.SD2 else settings["num_hidden_layers"]
        assert {key: config[key] for key in settings} == {**settings, "num_hidden_layers": layers}
