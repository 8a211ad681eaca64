from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from evaluation.diffusers_loop import build_scheduler
from models.denoiser import Denoiser
from models.single_file.load import load_single_file
from pipelines.local_engine import LocalEngine
from pipelines.request import GenerationRequest
from pipelines.result import GenerationResult, StepEvent
from pipelines.samplers import noise_levels
from tests.models.single_file.tiny import KINDS, KINDS_TO_LOAD, SIDE, is_xl, tiny_file, tiny_pipeline

REQUEST = GenerationRequest(
    prompt="a photo of a cat",
    negative_prompt="rain",
    width=SIDE,
    height=SIDE,
    steps=3,
    guidance_scale=3.0,
    sampler="Euler",
    seed=7,
)


@pytest.fixture(scope="module", params=KINDS_TO_LOAD)
def made(request: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path, Path]:
    """A kind, its single file, and the folder that diffusers reads beside it."""
    home, name = tmp_path_factory.mktemp("single"), request.param
    tiny_pipeline(name).save_pretrained(home / "folder")
    return name, tiny_file(name, home / "model.safetensors"), home / "folder"


def our_pixels(path: Path) -> tuple[np.ndarray, Denoiser]:
    """What is decoded of the last step, before it is rounded to 8 bits, and the denoiser."""
    engine = LocalEngine(path, "cpu")
    model = engine.model  # in float64: a random network makes much of the last bit
    for network in (model.denoiser.unet, model.text_encoder, model.autoencoder):
        torch.nn.Module.double(network)
    *_, last, result = engine.generate(REQUEST)
    assert isinstance(last, StepEvent)
    assert isinstance(result, GenerationResult)
    assert last.denoised is not None
    with torch.no_grad():
        pixels = engine.model.autoencoder.decode(last.denoised.double())
    return (pixels / 2 + 0.5).clamp(0, 1).permute(0, 2, 3, 1).numpy(), model.denoiser


def their_pixels(pipeline: Any, denoiser: Denoiser) -> np.ndarray:
    """What diffusers' pipeline draws from the same noise at the same noise levels."""
    pipeline.scheduler, _ = build_scheduler(denoiser, REQUEST)
    # In float32 diffusers is a few ten-thousandths of a step beside the number that stands for a noise level.
    pipeline.scheduler._sigma_to_t = lambda sigma, _: denoiser.timestep(float(sigma))
    sigmas = noise_levels("Uniform", denoiser.alphas_cumprod, REQUEST.steps, False)
    shape = (4, SIDE // 8, SIDE // 8)
    noise = torch.randn(shape, generator=torch.Generator().manual_seed(REQUEST.seed or 0))[None].double()
    pipeline.to(torch.float64)
    pipeline.set_progress_bar_config(disable=True)
    given = {}
    if "Inpaint" in type(pipeline).__name__:
        # diffusers shows the denoiser a sample of the masked picture's latents, we show it the mode.
        pipeline._encode_vae_image = lambda image, generator: (
            pipeline.vae.encode(image).latent_dist.mode() * pipeline.vae.config.scaling_factor
        )
        grey = np.full((1, SIDE, SIDE, 3), 0.5, dtype=np.float32)
        given = {"image": grey, "mask_image": np.ones((1, SIDE, SIDE), dtype=np.float32), "strength": 1.0}
    pixels: np.ndarray = pipeline(
        prompt=REQUEST.prompt,
        negative_prompt=REQUEST.negative_prompt,
        width=SIDE,
        height=SIDE,
        sigmas=[*sigmas.tolist(), 0.0],
        guidance_scale=REQUEST.guidance_scale,
        latents=noise,
        output_type="np",
        **given,
    ).images
    return pixels


def test_pixels_are_those_of_diffusers_from_the_same_file(made: tuple[str, Path, Path]) -> None:
    name, file, folder = made
    kind = type(tiny_pipeline(name))
    without = (
        {"add_watermarker": False} if is_xl(name) else {"safety_checker": None, "feature_extractor": None}
    )
    theirs = kind.from_single_file(str(file), config=str(folder), local_files_only=True, **without)
    found, denoiser = our_pixels(file)
    wanted = their_pixels(theirs, denoiser)
    assert np.abs(wanted - wanted.mean()).max() > 0.05  # a picture
    assert np.abs(found - wanted).max() < 1e-4


def test_what_a_file_is_stands_in_the_model(made: tuple[str, Path, Path]) -> None:
    name, file, _ = made
    model = load_single_file(file)
    assert model.denoiser.prediction_type == KINDS[name].prediction
    assert (model.image_condition is not None) == (KINDS[name].channels == 9)
    assert model.name == "model"
    assert not any(parameter.requires_grad for parameter in model.denoiser.unet.parameters())
