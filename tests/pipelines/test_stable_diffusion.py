"""Folders of Stable Diffusion 1, 2 and SDXL draw what diffusers' own pipelines draw with them."""

from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from PIL import Image

from evaluation.diffusers_loop import build_scheduler
from models.folder import load_model, model_id
from models.folder_check import check_model_folder
from models.latent_diffusion import LatentDiffusionModel
from models.weights import read_json
from pipelines.inputs import InputStore, read_mask, read_picture
from pipelines.local_engine import LocalEngine
from pipelines.request import GenerationRequest
from pipelines.request_parts import ImageInput
from pipelines.result import StepEvent
from pipelines.samplers import noise_levels
from tests.stable_diffusion import FAMILIES, SIDE_PIXELS, make_model

pytestmark = pytest.mark.slow
TOLERANCE = 1e-4  # of pixels in [0, 1]
SIDE = SIDE_PIXELS


@pytest.fixture(scope="module", params=FAMILIES)
def folder(request: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model(request.param, tmp_path_factory.mktemp("models") / request.param)


@pytest.fixture(scope="module")
def xl(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model("sdxl", tmp_path_factory.mktemp("models") / "sdxl")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> InputStore:
    return InputStore(tmp_path_factory.mktemp("inputs"))


def a_request(**changes: Any) -> GenerationRequest:
    fields: dict[str, Any] = {
        "prompt": "a cat", "negative_prompt": "rain", "width": SIDE, "height": SIDE, "steps": 4,
        "guidance_scale": 3.0, "sampler": "Euler", "seed": 7,
    }  # fmt: skip
    return GenerationRequest(**(fields | changes))


def a_picture() -> Image.Image:
    small = np.random.default_rng(0).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    return Image.fromarray(small).resize((SIDE, SIDE), Image.Resampling.BICUBIC)


def ours(
    folder: Path, request: GenerationRequest, store: InputStore | None = None
) -> tuple[np.ndarray, LatentDiffusionModel]:
    """What is decoded of the last step (1, H, W, 3), before it is rounded to 8 bits, and the model."""
    engine = LocalEngine(folder, "cpu", inputs=store)
    model = engine.model  # in float64: a random network makes much of the last bit
    for network in (model.denoiser.unet, model.text_encoder, model.autoencoder):
        torch.nn.Module.double(network)
    *_, last, _ = engine.generate(request)
    assert isinstance(last, StepEvent)
    assert last.denoised is not None
    with torch.no_grad():
        pixels = model.autoencoder.decode(last.denoised.double())
    return (pixels / 2 + 0.5).clamp(0, 1).permute(0, 2, 3, 1).numpy(), model


def theirs(
    folder: Path, model: LatentDiffusionModel, request: GenerationRequest, kind: str = "", **given: Any
) -> np.ndarray:
    """What diffusers' pipeline draws with the folder, at the same noise levels."""
    named = getattr(diffusers, kind or read_json(folder / "model_index.json")["_class_name"])
    pipeline = named.from_pretrained(folder)
    pipeline.to(torch.float64).set_progress_bar_config(disable=True)
    pipeline.scheduler, _ = build_scheduler(model.denoiser, request)
    # In float32 diffusers is a few ten-thousandths of a step beside the number that stands for a noise level.
    pipeline.scheduler._sigma_to_t = lambda sigma, _: model.denoiser.timestep(float(sigma))
    levels = noise_levels("Uniform", model.denoiser.alphas_cumprod, request.steps, False)
    pixels: np.ndarray = pipeline(
        prompt=request.prompt,
        negative_prompt=request.negative_prompt or None,
        sigmas=[*levels.tolist(), 0.0],
        guidance_scale=request.guidance_scale,
        output_type="np",
        **given,
    ).images
    return pixels


def noise() -> torch.Tensor:
    return torch.randn((1, 4, SIDE // 8, SIDE // 8), generator=torch.Generator().manual_seed(7)).double()


def assert_alike(found: np.ndarray, wanted: np.ndarray) -> None:
    assert wanted.std() > 0.01  # a picture
    assert np.abs(found - wanted).max() < TOLERANCE


def test_words_become_the_picture_that_diffusers_draws(folder: Path) -> None:
    request = a_request()
    found, model = ours(folder, request)
    given: dict[str, Any] = {"latents": noise(), "width": SIDE, "height": SIDE}
    if model.image_condition is not None:
        grey = np.full((1, SIDE, SIDE, 3), 0.5, dtype=np.float32)
        given |= {"image": grey, "mask_image": np.ones((1, SIDE, SIDE), np.float32), "strength": 1.0}
    assert_alike(found, theirs(folder, model, request, **given))


@pytest.mark.parametrize("family", ["sd1-inpaint", "sdxl-inpaint"])
def test_a_hole_is_painted_as_diffusers_paints_it(family: str, tmp_path: Path, store: InputStore) -> None:
    folder = make_model(family, tmp_path / family)
    mask = Image.new("L", (SIDE, SIDE))
    mask.paste(255, (SIDE // 2, 0, SIDE, SIDE))
    image = ImageInput(
        picture=store.add(read_picture(a_picture())), mask=store.add(read_mask(mask)), strength=1.0
    )
    request = a_request(image=image)
    found, model = ours(folder, request, store)
    pixels = torch.from_numpy(np.asarray(a_picture()).copy()).permute(2, 0, 1)[None].double() / 127.5 - 1
    with torch.no_grad():
        kept = model.autoencoder.encode(pixels)
    kept[..., SIDE // 16 :] = 0  # where nothing is known, noise alone
    scheduler, scale = build_scheduler(model.denoiser, request)
    latents = (kept + float(scheduler.sigmas[0]) * noise()) / scale
    wanted = theirs(
        folder, model, request, latents=latents, image=a_picture(), mask_image=mask, strength=1.0,
        width=SIDE, height=SIDE,
    )  # fmt: skip
    assert_alike(found, wanted)


def test_sdxl_goes_on_from_a_picture_as_diffusers_does(xl: Path, store: InputStore) -> None:
    image = ImageInput(picture=store.add(read_picture(a_picture())), strength=0.5)
    request = a_request(image=image)
    found, model = ours(xl, request, store)
    pixels = torch.from_numpy(np.asarray(a_picture()).copy()).permute(2, 0, 1)[None].double() / 127.5 - 1
    with torch.no_grad():
        clean = model.autoencoder.encode(pixels)
    scheduler, _ = build_scheduler(model.denoiser, request)
    latents = clean + float(scheduler.sigmas[2]) * noise()  # the third step of four
    wanted = theirs(
        xl, model, request, "StableDiffusionXLImg2ImgPipeline", image=a_picture(), strength=0.5,
        latents=latents,
    )  # fmt: skip
    assert_alike(found, wanted)


def test_no_negative_words_are_zeros_or_the_empty_prompt_as_the_folder_says(tmp_path: Path) -> None:
    request = a_request(
        negative_prompt="", width=2 * SIDE
    )  # told the size of the picture, not of its training
    wide = torch.randn((1, 4, SIDE // 8, SIDE // 4), generator=torch.Generator().manual_seed(7)).double()
    drawn = []
    for zeros in (True, False):
        folder = make_model("sdxl", tmp_path / str(zeros), force_zeros_for_empty_prompt=zeros)
        found, model = ours(folder, request)
        drawn.append(found)
        given = {"latents": wide, "width": 2 * SIDE, "height": SIDE}
        assert_alike(found, theirs(folder, model, request, **given))
    assert np.abs(drawn[0] - drawn[1]).max() > TOLERANCE


def test_a_folder_says_how_it_draws(folder: Path) -> None:
    check_model_folder(folder)
    model = load_model(folder)
    prediction, _, _, channels = FAMILIES[folder.name]
    assert model.denoiser.prediction_type == prediction
    assert (model.image_condition is not None) == (channels == 9)
    assert (model.defaults.width, model.defaults.height) == (SIDE, SIDE)
    assert model.defaults.guidance_scale == (5.0 if folder.name.startswith("sdxl") else 7.5)


def test_the_second_text_encoder_is_part_of_what_a_model_is(tmp_path: Path) -> None:
    folder = make_model("sdxl", tmp_path / "sdxl")
    before, file = model_id(folder), folder / "text_encoder_2" / "model.safetensors"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    assert model_id(folder) != before
