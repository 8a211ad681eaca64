"""Drawing that starts from a picture: on a world where the answer is known, and with tiny models."""

import dataclasses
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from models.defaults import ImageCondition
from models.folder import load_model
from models.image_condition import image_condition
from models.latent_diffusion import LatentDiffusionModel
from pipelines.inputs import InputStore, read_mask, read_picture
from pipelines.noise import Noise
from pipelines.request import GenerationRequest
from pipelines.request_parts import ImageInput, SecondPass
from pipelines.result import GenerationResult, StepEvent
from pipelines.samplers import SAMPLERS, make_scheduler, noise_levels
from pipelines.start import Start
from pipelines.text_to_image import text_to_image
from tests.pipelines.gaussian import draw, perfect_denoiser, relative_error
from tests.tiny import make_tiny_model

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")
KINDS: tuple[Any, ...] = ("epsilon", "v_prediction", "flow")
SHAPE = (4, 8, 8)
SIDE = 64


@pytest.fixture(scope="module")
def model(tiny_model_folder: Path) -> LatentDiffusionModel:
    return load_model(tiny_model_folder)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> InputStore:
    return InputStore(tmp_path_factory.mktemp("inputs"))


def a_picture(seed: int = 0) -> Image.Image:
    """Smooth colours, as pictures have them."""
    random = np.random.default_rng(seed)
    small = Image.fromarray(random.integers(0, 256, (6, 6, 3), dtype=np.uint8))
    return small.resize((SIDE, SIDE), Image.Resampling.BICUBIC)


def half_mask() -> Image.Image:
    mask = Image.new("L", (SIDE, SIDE))
    mask.paste(255, (SIDE // 2, 0, SIDE, SIDE))
    return mask


def a_request(**changes: Any) -> GenerationRequest:
    fields: dict[str, Any] = {
        "prompt": "a red apple", "width": SIDE, "height": SIDE, "steps": 4, "guidance_scale": 2.0,
        "sampler": "Euler", "seed": 11,
    }  # fmt: skip
    return GenerationRequest(**(fields | changes))


def an_image(store: InputStore, mask: Image.Image | None = None, seed: int = 0, **fields: Any) -> ImageInput:
    named = None if mask is None else store.add(read_mask(mask))
    return ImageInput(picture=store.add(read_picture(a_picture(seed))), mask=named, **fields)


def finish(
    model: LatentDiffusionModel, request: GenerationRequest, store: InputStore | None = None, **options: Any
) -> tuple[list[StepEvent], list[np.ndarray[Any, Any]]]:
    *events, result = text_to_image(model, request, inputs=store, **options)
    assert isinstance(result, GenerationResult)
    return events, [np.asarray(image).astype(int) for image in result.images]  # type: ignore[return-value]


def psnr(one: np.ndarray[Any, Any], other: np.ndarray[Any, Any]) -> float:
    return 10 * math.log10(255**2 / max(1e-9, float(((one - other) ** 2).mean())))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", [name for name in SAMPLERS if name != "LCM"])
def test_every_sampler_starts_in_the_middle(name: str, kind: Any) -> None:
    denoiser, steps, skip = perfect_denoiser(kind), 24, 10
    start = Start(0.3 + 0.5 * torch.randn(1, *SHAPE, generator=torch.Generator().manual_seed(1)))
    scheduler = make_scheduler(SAMPLERS[name], "Automatic", denoiser, steps, skip)
    latents, events = draw(denoiser, scheduler, Noise([5]), SHAPE, start=start)
    assert [event.step for event in events] == list(range(1, steps - skip + 1))
    assert {event.total for event in events} == {steps - skip}
    automatic = "Uniform" if kind == "flow" else SAMPLERS[name].automatic
    levels = noise_levels(automatic, denoiser.alphas_cumprod, steps, kind == "flow")
    assert events[0].sigma == pytest.approx(float(levels[skip]), rel=1e-3)
    noised = start.noised(Noise([5]).draw(SHAPE), events[0].sigma)
    torch.testing.assert_close(events[0].latents, noised, atol=1e-4, rtol=1e-3)
    if SAMPLERS[name].stochastic:  # the data's own spread, whatever the noise
        assert abs(float(latents.mean()) - 0.3) < 0.15
        assert 0.3 < float(latents.std()) < 0.7
    else:
        assert relative_error(latents, events) < 0.1  # the ones of first order; the others are far below


def test_a_distilled_model_starts_in_the_middle_too() -> None:
    denoiser = perfect_denoiser("epsilon", distilled=True)
    scheduler = make_scheduler(SAMPLERS["LCM"], "Automatic", denoiser, 8, 5)
    start = Start(torch.full((1, *SHAPE), 0.3))
    latents, events = draw(denoiser, scheduler, Noise([5]), SHAPE, start=start)
    assert len(events) == 3
    whole = make_scheduler(SAMPLERS["LCM"], "Automatic", denoiser, 8)
    _, all_events = draw(denoiser, whole, Noise([5]), SHAPE)
    assert [event.sigma for event in events] == [event.sigma for event in all_events[5:]]
    assert abs(float(latents.mean()) - 0.3) < 0.15


@pytest.mark.parametrize("name", [name for name in SAMPLERS if name != "LCM"])
def test_what_stays_is_the_original_at_the_noise_of_each_step(name: str) -> None:
    denoiser, noise = perfect_denoiser("flow"), Noise([5]).draw(SHAPE)
    free = torch.zeros(1, 1, 8, 8, dtype=torch.bool)
    free[..., 4:] = True
    clean = torch.randn(1, *SHAPE, generator=torch.Generator().manual_seed(1))
    scheduler = make_scheduler(SAMPLERS[name], "Automatic", denoiser, 12, 2)
    latents, events = draw(denoiser, scheduler, Noise([5]), SHAPE, start=Start(clean, free))
    assert torch.equal(latents[..., :4], clean[..., :4])
    assert not torch.isclose(latents[..., 4:], clean[..., 4:]).any(dim=-1).all()
    for event in events:
        assert event.latents is not None
        assert event.denoised is not None
        torch.testing.assert_close(event.denoised[..., :4], clean[..., :4], atol=1e-3, rtol=1e-3)
        if SAMPLERS[name].stochastic:
            continue
        seen = event.latents * math.hypot(1, event.sigma) - clean
        error = (seen / event.sigma - noise)[..., :4].abs().max()
        assert error < 0.02, event.step


def test_strength_one_keeps_nothing_and_little_strength_keeps_the_picture(
    model: LatentDiffusionModel, store: InputStore
) -> None:
    _, (words,) = finish(model, a_request())
    for seed in (0, 1):
        _, (all_new,) = finish(model, a_request(image=an_image(store, seed=seed, strength=1.0)), store)
        assert (all_new == words).all()
    with torch.inference_mode():
        pixels = torch.from_numpy(np.array(a_picture())).permute(2, 0, 1)[None] / 127.5 - 1
        shown = model.autoencoder.decode(model.autoencoder.encode(pixels))[0].permute(1, 2, 0)
    kept = ((shown.clamp(-1, 1) + 1) * 127.5).round().numpy().astype(int)
    near = []
    for strength in (0.125, 0.5, 1.0):
        events, (drawn,) = finish(model, a_request(steps=8, image=an_image(store, strength=strength)), store)
        assert len(events) == round(strength * 8)
        near.append(psnr(drawn, kept))
    assert near == sorted(near, reverse=True)
    assert near[0] > near[-1] + 2  # a random decoder makes much of little


@pytest.mark.parametrize("name", ["Euler", "DPM++ SDE", "Euler a"])
@pytest.mark.parametrize("masked", [False, True])
def test_an_image_of_a_batch_is_the_image_alone(
    model: LatentDiffusionModel, store: InputStore, name: str, masked: bool
) -> None:
    image = an_image(store, half_mask() if masked else None, fill="latent noise", strength=0.75)
    more = {"sampler": name, "variation_seed": 3, "variation_strength": 0.4, "image": image}
    request = a_request(count=3, **more)
    _, three = finish(model, request, store, batch_images=3)
    for index in (0, 2):
        _, (alone,) = finish(model, request.for_image(index), store)
        assert abs(three[index] - alone).max() <= 1
    assert (three[0] != three[1]).any()


@pytest.mark.parametrize("fill", ["original", "fill", "latent noise", "latent nothing"])
@pytest.mark.parametrize("strength", [0.5, 1.0])
def test_outside_the_mask_not_a_bit_changes(
    model: LatentDiffusionModel, store: InputStore, fill: Any, strength: float
) -> None:
    image = an_image(store, half_mask(), fill=fill, strength=strength)
    events, (drawn,) = finish(model, a_request(image=image), store)
    picture = np.asarray(a_picture()).astype(int)
    assert (drawn[:, : SIDE // 2] == picture[:, : SIDE // 2]).all()
    assert (drawn[:, SIDE // 2 + 8 :] != picture[:, SIDE // 2 + 8 :]).mean() > 0.5
    assert len(events) == round(4 * strength)


def test_what_fills_the_mask_matters(model: LatentDiffusionModel, store: InputStore) -> None:
    drawn = [
        finish(model, a_request(image=an_image(store, half_mask(), fill=fill, strength=0.5)), store)[1][0]
        for fill in ("original", "fill", "latent noise", "latent nothing")
    ]
    for index, one in enumerate(drawn):
        for other in drawn[index + 1 :]:
            assert (one != other).any()


def test_only_the_masked_part_is_drawn_and_put_back(model: LatentDiffusionModel, store: InputStore) -> None:
    mask = Image.new("L", (SIDE, SIDE))
    mask.paste(255, (40, 8, 56, 24))
    image = an_image(store, mask, only_masked=True, mask_padding=4, mask_blur=0)
    events, (drawn,) = finish(model, a_request(width=32, height=32, image=image), store)
    assert drawn.shape == (SIDE, SIDE, 3)
    assert events[0].latents is not None
    assert events[0].latents.shape[-2:] == (8, 8)
    picture, inside = np.asarray(a_picture()).astype(int), np.asarray(mask) > 0
    assert (drawn[~inside] == picture[~inside]).all()
    assert (drawn[inside] != picture[inside]).mean() > 0.5


def test_a_picture_grows_over_its_edges(model: LatentDiffusionModel, store: InputStore) -> None:
    request = a_request(width=96, height=72, image=an_image(store, extend=(16, 8, 16, 0), strength=1.0))
    _, (drawn,) = finish(model, request, store)
    assert drawn.shape == (72, 96, 3)
    assert (drawn[8:, 16:80] == np.asarray(a_picture())).all()


def test_an_inpainting_model_is_shown_the_picture_with_its_hole(tmp_path: Path, store: InputStore) -> None:
    model = load_model(make_tiny_model(tmp_path / "m", image_condition=ImageCondition("inpaint")))
    seen, runner = [], model.denoiser.runner

    def looking(z: torch.Tensor, t: torch.Tensor, states: Any) -> torch.Tensor:
        seen.append(z)
        return runner(z, t, states)

    model.denoiser.runner = looking
    request = a_request(image=an_image(store, half_mask(), strength=1.0, mask_blur=0), guidance_scale=1.0)
    _, (drawn,) = finish(model, request, store)
    pixels = torch.from_numpy(np.array(a_picture())).permute(2, 0, 1)[None] / 127.5 - 1
    mask = torch.from_numpy(np.array(half_mask()))[None, None].float() / 255
    with torch.inference_mode():
        expected = image_condition(model.autoencoder, pixels, mask)
    for z in seen:
        torch.testing.assert_close(z[:, 4:], expected)
    assert (drawn[:, : SIDE // 2] == np.asarray(a_picture())[:, : SIDE // 2]).all()


def test_a_model_that_enlarges_is_shown_a_small_picture(tmp_path: Path, store: InputStore) -> None:
    folder = make_tiny_model(tmp_path / "m", image_condition=ImageCondition("upscale", 2))
    model = load_model(folder)
    _, (one,) = finish(model, a_request(image=an_image(store, strength=1.0)), store)
    _, (other,) = finish(model, a_request(image=an_image(store, seed=1, strength=1.0)), store)
    assert (one != other).any()


@pytest.mark.parametrize("upscaler", ["Latent", "Lanczos"])
def test_a_second_pass_draws_larger(model: LatentDiffusionModel, upscaler: Any) -> None:
    second = SecondPass(scale=1.5, strength=0.5, steps=6, upscaler=upscaler)
    events, drawn = finish(model, a_request(second_pass=second, count=2), batch_images=2)
    assert [image.shape for image in drawn] == [(96, 96, 3)] * 2
    assert [(event.step, event.total) for event in events] == [(step, 7) for step in range(1, 8)]
    assert events[3].latents is not None
    assert events[4].latents is not None
    assert (events[3].latents.shape[-1], events[4].latents.shape[-1]) == (16, 24)
    _, (alone,) = finish(model, a_request(second_pass=second, seed=12))
    assert abs(alone - drawn[1]).max() <= 1
    # With little strength it is the first picture, larger.
    little = dataclasses.replace(second, strength=0.05, steps=20)
    _, (first,) = finish(model, a_request())
    _, (like_first,) = finish(model, a_request(second_pass=little))
    _, (unlike,) = finish(model, a_request(second_pass=dataclasses.replace(second, strength=1.0)))
    larger = np.asarray(Image.fromarray(first.astype(np.uint8)).resize((96, 96), Image.Resampling.LANCZOS))
    assert psnr(like_first, larger.astype(int)) > psnr(unlike, larger.astype(int))
