import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from models.autoencoder import build_autoencoder
from models.errors import StudioError
from models.folder import load_model
from models.latent_diffusion import LatentDiffusionModel
from models.text_encoder import TextStates
from pipelines.guidance import guided_epsilon
from pipelines.preview import fit_preview, preview_images
from pipelines.request import GenerationRequest
from pipelines.result import GenerationResult, StepEvent
from pipelines.samplers import SAMPLERS
from pipelines.text_to_image import text_to_image
from tests.pipelines.gaussian import perfect_denoiser

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


@pytest.fixture(scope="module")
def model(tiny_model_folder: Path) -> LatentDiffusionModel:
    return load_model(tiny_model_folder)


def a_request(**changes: Any) -> GenerationRequest:
    fields: dict[str, Any] = {
        "prompt": "a red apple",
        "width": 32,
        "height": 32,
        "steps": 3,
        "guidance_scale": 2.0,
        "sampler": "Euler",
        "seed": 11,
    }
    return GenerationRequest(**(fields | changes))


def finish(
    model: LatentDiffusionModel, request: GenerationRequest, **options: Any
) -> tuple[list[StepEvent], GenerationResult]:
    *events, result = text_to_image(model, request, **options)
    assert all(isinstance(event, StepEvent) for event in events)
    assert isinstance(result, GenerationResult)
    return events, result  # type: ignore[return-value]


def pixels(image: Image.Image) -> np.ndarray[Any, Any]:
    return np.asarray(image).astype(int)


def test_a_model_with_a_codebook_draws_and_shows_its_steps(model: LatentDiffusionModel) -> None:
    torch.manual_seed(0)
    autoencoder = build_autoencoder("tiny", "vq").eval()
    shown = torch.rand(4, 3, 32, 32) * 2 - 1
    with torch.no_grad():
        # A codebook of latents that occur, so that quantisation is seen to happen.
        found = autoencoder.raw_latents(shown).permute(0, 2, 3, 1).flatten(0, 2)[:64]
        autoencoder.vae.quantize.embedding.weight.copy_(found)
    quantized = dataclasses.replace(model, autoencoder=autoencoder, preview=fit_preview(autoencoder, shown))
    events, result = finish(quantized, a_request())
    assert quantized.preview is not None
    assert len(preview_images(quantized.preview, events[-1].latents)) == 1
    assert events[-1].denoised is not None
    codes, _ = autoencoder.quantize(autoencoder.normalizer.denormalize(events[-1].denoised))
    with torch.no_grad():
        expected = autoencoder.reconstruct(codes)[0]
    drawn = torch.from_numpy(pixels(result.images[0])).permute(2, 0, 1) / 127.5 - 1
    assert torch.allclose(drawn, expected.clamp(-1, 1), atol=0.01)


def test_steps_then_pictures(model: LatentDiffusionModel) -> None:
    request = a_request(count=3, width=40, height=32)
    events, result = finish(model, request, batch_images=2)
    assert [(e.image_index, e.images, e.step, e.total) for e in events] == [
        *((0, 2, step, 3) for step in (1, 2, 3)),
        *((2, 1, step, 3) for step in (1, 2, 3)),
    ]
    factor = model.autoencoder.downsampling_factor
    assert events[0].denoised is not None
    assert events[0].latents is not None
    assert events[0].denoised.shape == events[0].latents.shape == (2, 4, 32 // factor, 40 // factor)
    assert [event.fraction_done(3) for event in events] == sorted(event.fraction_done(3) for event in events)
    assert [image.size for image in result.images] == [(40, 32)] * 3
    assert {image.mode for image in result.images} == {"RGB"}
    assert result.request == request
    assert (result.model_name, result.model_id) == (model.name, model.model_id)
    assert result.seconds > 0


def test_the_same_seed_draws_the_same_pixels_and_another_does_not(model: LatentDiffusionModel) -> None:
    first, again, other = (pixels(finish(model, a_request(seed=seed))[1].images[0]) for seed in (11, 11, 12))
    assert (first == again).all()
    assert (first != other).any()


def test_a_random_seed_is_told_in_the_result(model: LatentDiffusionModel) -> None:
    _, result = finish(model, a_request(seed=None))
    assert result.request.seed is not None
    _, again = finish(model, result.request)
    assert (pixels(result.images[0]) == pixels(again.images[0])).all()


@pytest.mark.parametrize("name", ["Euler", "DPM++ 2M", "Euler a", "DDPM", "DPM++ 2M SDE", "DPM++ SDE", "LCM"])
@pytest.mark.parametrize("noise", ["cpu", "nv"])
def test_an_image_of_a_batch_is_the_image_alone(model: LatentDiffusionModel, name: str, noise: str) -> None:
    assert name in ("Euler", "DPM++ 2M") or SAMPLERS[name].stochastic
    _, four = finish(model, a_request(sampler=name, count=4, noise=noise), batch_images=4)
    for index in (0, 2, 3):
        _, alone = finish(model, a_request(sampler=name, seed=11 + index, noise=noise))
        assert abs(pixels(four.images[index]) - pixels(alone.images[0])).max() <= 2
    assert (pixels(four.images[0]) != pixels(four.images[1])).any()


def test_closing_stops_the_work(model: LatentDiffusionModel) -> None:
    calls = []
    runner = model.denoiser.runner

    def counting(z: torch.Tensor, t: torch.Tensor, states: TextStates) -> torch.Tensor:
        calls.append(float(t[0]))
        return runner(z, t, states)

    model.denoiser.runner = counting
    try:
        stream = text_to_image(model, a_request(steps=50, count=5))
        next(stream)
        next(stream)
        stream.close()  # type: ignore[attr-defined]
        assert len(calls) == 2
        with pytest.raises(StopIteration):
            next(stream)
    finally:
        model.denoiser.runner = runner


def test_inference_mode_does_not_leak_to_the_caller(model: LatentDiffusionModel) -> None:
    for _ in text_to_image(model, a_request()):
        assert not torch.is_inference_mode_enabled()
        assert torch.is_grad_enabled()


def test_an_empty_prompt_is_drawn(model: LatentDiffusionModel) -> None:
    _, result = finish(model, a_request(prompt="", negative_prompt=""))
    _, words = finish(model, a_request())
    assert (pixels(result.images[0]) != pixels(words.images[0])).any()


def test_the_negative_prompt_counts_unless_guidance_is_one(model: LatentDiffusionModel) -> None:
    for scale, counts in ((2.0, True), (0.0, True), (1.0, False)):
        one, other = (
            pixels(finish(model, a_request(guidance_scale=scale, negative_prompt=words))[1].images[0])
            for words in ("", "a blue dog")
        )
        assert (one != other).any() == counts


def forwards(model: LatentDiffusionModel, monkeypatch: pytest.MonkeyPatch, **changes: Any) -> list[int]:
    """How many latents the network is given in each call of a drawing of one picture."""
    sizes: list[int] = []
    epsilon = model.denoiser.epsilon

    def counted(x: torch.Tensor, *others: Any) -> torch.Tensor:
        sizes.append(len(x))
        return epsilon(x, *others)

    with monkeypatch.context() as patch:
        patch.setattr(model.denoiser, "epsilon", counted)
        finish(model, a_request(**changes))
    return sizes


@pytest.mark.parametrize(
    ("start", "end", "calls"),
    [
        (0.0, 1.0, [2] * 10),
        (0.2, 0.8, [1, 1, 2, 2, 2, 2, 2, 2, 1, 1]),
        (0.0, 0.01, [2] + [1] * 9),
        (0.95, 1.0, [1] * 10),
    ],
)
def test_outside_of_its_interval_guidance_costs_no_second_forward(
    model: LatentDiffusionModel, monkeypatch: pytest.MonkeyPatch, start: float, end: float, calls: list[int]
) -> None:
    found = forwards(model, monkeypatch, steps=10, guidance_start=start, guidance_end=end)
    assert found == calls


def test_the_whole_interval_is_plain_guidance_and_none_of_it_none(model: LatentDiffusionModel) -> None:
    plain = finish(model, a_request(steps=4))[1].images[0]
    whole = finish(model, a_request(steps=4, guidance_start=0, guidance_end=1))[1].images[0]
    part = finish(model, a_request(steps=4, guidance_start=0.5))[1].images[0]
    never = finish(model, a_request(steps=4, guidance_start=0.9))[1].images[0]
    without = finish(model, a_request(steps=4, guidance_scale=1.0))[1].images[0]
    assert (pixels(plain) == pixels(whole)).all()
    assert (pixels(never) == pixels(without)).all()
    assert (pixels(part) != pixels(plain)).any()
    assert (pixels(part) != pixels(without)).any()


def test_an_interval_is_of_the_schedule_also_for_a_second_pass(
    model: LatentDiffusionModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pipelines.request_parts import SecondPass

    second = SecondPass(scale=1.5, strength=0.5)
    # Of its eight steps the second pass does the last four.
    found = forwards(model, monkeypatch, steps=8, guidance_end=0.75, second_pass=second)
    assert found == [2] * 6 + [1] * 2 + [2] * 2 + [1] * 2


def test_guidance_counts_from_the_unconditional_prediction() -> None:
    denoiser = perfect_denoiser("epsilon")
    batches = []

    def runner(z: torch.Tensor, t: torch.Tensor, states: TextStates) -> torch.Tensor:
        batches.append(len(z))
        return states.pooled.reshape(-1, 1, 1, 1).expand_as(z)

    def states(value: float) -> TextStates:
        return TextStates(torch.zeros(2, 1, 1), torch.ones(2, 1, dtype=torch.bool), torch.full((2, 1), value))

    denoiser.runner = runner
    x = torch.zeros(2, 4, 8, 8)
    found = {
        scale: float(guided_epsilon(denoiser, x, 1.0, states(3.0), states(1.0), scale).mean())
        for scale in (0.0, 0.5, 1.0, 7.5)
    }
    assert found == {0.0: 1.0, 0.5: 2.0, 1.0: 3.0, 7.5: 16.0}
    assert batches == [2, 4, 2, 4]


def test_denoised_and_latents_of_a_step_belong_together(model: LatentDiffusionModel) -> None:
    for name in ("Euler", "Heun", "DPM++ 2M", "DDIM"):
        events, _ = finish(model, a_request(sampler=name, steps=4))
        for event in events:
            assert event.latents is not None
            assert event.denoised is not None
            epsilon = (event.latents * (1 + event.sigma**2) ** 0.5 - event.denoised) / event.sigma
            scale = (1 + event.sigma**2) ** -0.5
            torch.testing.assert_close(scale * (event.denoised + event.sigma * epsilon), event.latents)


def test_numbers_that_are_not_finite_are_told(model: LatentDiffusionModel) -> None:
    runner = model.denoiser.runner

    def broken(z: torch.Tensor, t: torch.Tensor, states: TextStates) -> torch.Tensor:
        return z * (float("nan") if float(t[0]) < 500 else 1.0)

    model.denoiser.runner = broken
    try:
        with pytest.raises(StudioError, match=r"NaN\) in step 3 of 4"):
            list(text_to_image(model, a_request(steps=4)))
    finally:
        model.denoiser.runner = runner


def test_a_decoder_that_overflows_is_told(model: LatentDiffusionModel) -> None:
    broken = load_model(model.path)
    with torch.no_grad():
        next(broken.autoencoder.vae.decoder.parameters()).fill_(float("inf"))
    with pytest.raises(StudioError, match="decoder"):
        list(text_to_image(dataclasses.replace(model, autoencoder=broken.autoencoder), a_request()))
