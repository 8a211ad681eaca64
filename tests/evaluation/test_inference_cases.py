from dataclasses import replace

import numpy as np
import pytest
from diffusers import AutoencoderKL, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel

from evaluation import inference_cases
from evaluation.diffusers_loop import draw
from evaluation.inference_cases import CASES
from models.folder import load_model
from pipelines.local_engine import LocalEngine
from pipelines.result import GenerationResult


def small_networks():
    """Stable Diffusion's classes with fewer channels, and as many pixels for a latent."""
    levels = 4
    vae = AutoencoderKL(
        block_out_channels=(8,) * levels,
        down_block_types=("DownEncoderBlock2D",) * levels,
        up_block_types=("UpDecoderBlock2D",) * levels,
        norm_num_groups=4,
    )
    text = CLIPTextConfig(hidden_size=16, intermediate_size=24, num_attention_heads=2, num_hidden_layers=1)
    unet = UNet2DConditionModel(
        sample_size=64,
        cross_attention_dim=16,
        block_out_channels=(8, 8, 8, 8),
        norm_num_groups=4,
        attention_head_dim=2,
    )
    return unet, vae, CLIPTextModel(text)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["unet60m", "sd15-512"])
def test_a_random_model_is_kept_and_drawn_alike_by_the_loop_and_our_engine(name, monkeypatch):
    monkeypatch.setattr(inference_cases, "stable_diffusion_networks", small_networks)
    case = CASES[name]
    folder = case.build()
    weights = folder / "unet" / "diffusion_pytorch_model.safetensors"
    written = weights.stat().st_mtime_ns
    assert case.build() == folder
    assert weights.stat().st_mtime_ns == written
    assert not list(folder.parent.glob("tmp*"))

    (request,) = case.requests(folder, 1)
    assert (request.width, request.steps) == ((256, 12) if name == "unet60m" else (512, 2))
    request = replace(request, width=64, height=64, steps=2)
    model = load_model(folder)
    (result,) = (e for e in LocalEngine(model, "cpu").generate(request) if isinstance(e, GenerationResult))
    ours, theirs = (np.asarray(images[0]).astype(int) for images in (result.images, draw(model, request)))
    assert ours.std() > 0
    assert abs(ours - theirs).max() <= 2
