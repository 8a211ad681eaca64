from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from app.commands.options import STARTER
from models.folder import load_model
from models.latent_diffusion import LatentDiffusionModel
from pipelines.request import GenerationRequest
from pipelines.result import GenerationResult
from pipelines.text_to_image import text_to_image
from pipelines.tiles import circular, decode


@pytest.fixture(scope="module")
def model(tiny_model_folder: Path) -> LatentDiffusionModel:
    return load_model(tiny_model_folder)


def a_request(side: int = 64, **changes: object) -> GenerationRequest:
    values = {"width": side, "height": side, "steps": 2, "guidance_scale": 2.0, "sampler": "Euler", "seed": 7}
    return GenerationRequest.from_dict({"prompt": "a red apple", "tiling": True, **values, **changes})


def paddings(model: LatentDiffusionModel) -> set[str]:
    networks = (model.denoiser.unet, model.autoencoder.vae)
    return {m.padding_mode for net in networks for m in net.modules() if isinstance(m, nn.Conv2d)}


@torch.inference_mode()
def test_a_ring_turned_and_drawn_is_the_drawing_turned(model: LatentDiffusionModel) -> None:
    x = torch.randn(1, 4, 16, 16, generator=torch.Generator().manual_seed(0))
    states = model.text_encoder.encode(["a red apple"])
    turn = (4, 8)
    with circular(model.denoiser.unet):
        straight = model.denoiser.epsilon(x, 1.0, states)
        turned = model.denoiser.epsilon(x.roll(turn, (2, 3)), 1.0, states)
    torch.testing.assert_close(turned, straight.roll(turn, (2, 3)), atol=1e-4, rtol=1e-3)
    factor = model.autoencoder.downsampling_factor
    pixels = (turn[0] * factor, turn[1] * factor)
    straight = decode(model.autoencoder, x, seamless=True)
    turned = decode(model.autoencoder, x.roll(turn, (2, 3)), seamless=True)
    torch.testing.assert_close(turned, straight.roll(pixels, (2, 3)), atol=1e-4, rtol=1e-3)
    flat = decode(model.autoencoder, x.roll(turn, (2, 3)))
    assert not torch.allclose(flat, decode(model.autoencoder, x).roll(pixels, (2, 3)), atol=1e-2)


def test_the_ring_is_undone_after_the_request_and_when_it_is_closed(model: LatentDiffusionModel) -> None:
    assert paddings(model) == {"zeros"}
    *_, result = text_to_image(model, a_request())
    assert paddings(model) == {"zeros"}
    stream = text_to_image(model, a_request())
    next(stream)
    assert "circular" in paddings(model)
    stream.close()  # type: ignore[attr-defined]
    assert paddings(model) == {"zeros"}
    *_, flat = text_to_image(model, a_request(tiling=False))
    assert isinstance(result, GenerationResult)
    assert isinstance(flat, GenerationResult)
    assert (np.asarray(result.images[0]) != np.asarray(flat.images[0])).any()


def seam(image: np.ndarray) -> float:
    """How much larger the step over the wrapped edges is than between neighbours within the picture."""
    across = abs(image[:, 0] - image[:, -1]).mean() + abs(image[0] - image[-1]).mean()
    within = abs(np.diff(image, axis=1)).mean() + abs(np.diff(image, axis=0)).mean()
    return float(across / within)


@pytest.mark.slow
def test_the_edges_of_a_seamless_picture_are_continuous() -> None:
    starter = load_model(STARTER)
    seams = []
    for tiling in (True, False):
        request = a_request(128, steps=12, prompt="a slice of pizza on a red background", tiling=tiling)
        request = GenerationRequest.from_dict(request.to_dict() | {"negative_prompt": "white"})
        *_, result = text_to_image(starter, request)
        assert isinstance(result, GenerationResult)
        seams.append(seam(np.asarray(result.images[0]).astype(float)))
    assert seams[0] < 2, seams


@pytest.mark.parametrize("seamless", [False, True])
@torch.inference_mode()
def test_tiles_cover_every_pixel(model: LatentDiffusionModel, seamless: bool) -> None:
    for height, width in ((16, 16), (17, 40), (33, 12)):
        rough = torch.randn(2, 4, 5, 5, generator=torch.Generator().manual_seed(1))
        latents = nn.functional.interpolate(rough, (height, width), mode="bicubic")  # smooth, as pictures'
        whole = decode(model.autoencoder, latents, seamless)
        tiled = decode(model.autoencoder, latents, seamless, whole_bytes=0, tile_pixels=64, overlap_pixels=32)
        assert tiled.shape == whole.shape
        assert torch.isfinite(tiled).all()
        # Random weights: what can be asked is that the same picture is there.
        assert torch.corrcoef(torch.stack([tiled.flatten(), whole.flatten()]))[0, 1] > 0.5


@pytest.mark.slow
@torch.inference_mode()
def test_a_picture_decoded_in_tiles_has_no_seams() -> None:
    starter = load_model(STARTER)
    y, x = torch.meshgrid(torch.linspace(-1, 1, 256), torch.linspace(-1, 1, 256), indexing="ij")
    disc = ((x**2 + y**2).sqrt() < 0.7).float()
    pixels = torch.stack([x * disc, y * disc, disc * 1.6 - 0.8])[None]  # (1, 3, 256, 256)
    latents = starter.autoencoder.encode(pixels)
    whole = starter.autoencoder.decode(latents)
    tiled = decode(starter.autoencoder, latents, whole_bytes=0, tile_pixels=128, overlap_pixels=32)
    error = (tiled - whole) * 127.5  # levels of 255
    assert 10 * torch.log10(255**2 / (error**2).mean()) > 40
    # A seam would be a step of the error along a whole row or column.
    steps = [error.diff(dim=dim).mean(dim=(0, 1, 5 - dim)).abs().max() for dim in (2, 3)]
    assert max(steps) < 1, steps
