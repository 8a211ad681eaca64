"""Drawing with ControlNets: as diffusers does, and in everything else that a request may ask for."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import (
    ControlNetModel,
    EulerDiscreteScheduler,
    StableDiffusionControlNetPipeline,
    StableDiffusionXLControlNetPipeline,
)
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from models.controlnet import SHARED
from models.errors import RequestError
from models.folder import load_model
from pipelines.controlnets import ControlNets
from pipelines.inputs import InputStore, read_mask, read_picture
from pipelines.local_engine import LocalEngine
from pipelines.noise import Noise
from pipelines.request import GenerationRequest
from pipelines.request_control import ControlInput
from pipelines.request_parts import ImageInput, SecondPass
from pipelines.result import GenerationResult, StepEvent
from pipelines.runners.on_openvino import OpenVINORunner
from tests.controls import make_controlnet
from tests.stable_diffusion import make_model
from tests.stock import SIDE_PIXELS, make_stock_model
from tests.tiny import make_tiny_model

pytestmark = pytest.mark.slow
Pixels = NDArray[np.float32]


def a_picture(seed: int = 0, side: int = SIDE_PIXELS) -> Image.Image:
    random = np.random.default_rng(seed)
    return Image.fromarray(random.integers(0, 256, (side, side, 3), dtype=np.uint8))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("control")
    make_stock_model(made / "model")
    for seed, name in enumerate(("lines", "depth")):
        make_controlnet(made / "controlnets" / name, seed)
    make_controlnet(made / "controlnets" / "untrained", zero=True)
    return made


@pytest.fixture(scope="module")
def store(folder: Path) -> InputStore:
    return InputStore(folder / "inputs")


@pytest.fixture(scope="module")
def engine(folder: Path, store: InputStore) -> LocalEngine:
    nets = ControlNets(folder / "controlnets")
    return LocalEngine(load_model(folder / "model"), "cpu", inputs=store, controlnets=nets)


def control(store: InputStore, name: str = "lines", seed: int = 0, **changes: Any) -> ControlInput:
    return ControlInput(controlnet=name, picture=store.add(read_picture(a_picture(seed))), **changes)


def a_request(**changes: Any) -> GenerationRequest:
    fields: dict[str, Any] = {
        "prompt": "a cat", "negative_prompt": "dog", "width": SIDE_PIXELS, "height": SIDE_PIXELS, "steps": 5,
        "guidance_scale": 3.0, "sampler": "DDIM", "seed": 11,
    }  # fmt: skip
    return GenerationRequest(**(fields | changes))


def draw(engine: LocalEngine, request: GenerationRequest) -> tuple[Pixels, GenerationResult, torch.Tensor]:
    """The pictures of a request, (N, H, W, 3) of 255, the result, and what was predicted in the last step."""
    *events, result = engine.generate(request)
    assert isinstance(result, GenerationResult)
    last = events[-1]
    assert isinstance(last, StepEvent)
    assert last.denoised is not None
    return np.stack([np.asarray(image, np.float32) for image in result.images]), result, last.denoised


PIPELINES = {
    "sd1": StableDiffusionControlNetPipeline,
    "sd2": StableDiffusionControlNetPipeline,
    "sdxl": StableDiffusionXLControlNetPipeline,
}
ONE, SOME_STEPS = [("a", 1.0, 0.0, 1.0)], [("a", 0.7, 0.2, 0.8)]  # of which no step is half inside
TWO = [("a", 1.3, 0.0, 0.6), ("b", 0.5, 0.4, 1.0)]


@pytest.mark.parametrize(
    ("family", "asked"),
    [
        ("sd1", ONE),
        ("sd1", SOME_STEPS),
        ("sd1", TWO),
        ("sd2", SOME_STEPS),
        ("sdxl", SOME_STEPS),
        ("sdxl", TWO),
    ],
)
def test_pixels_are_those_of_diffusers_own_pipeline(
    tmp_path: Path, store: InputStore, family: str, asked: list[tuple[str, float, float, float]]
) -> None:
    model = make_model(family, tmp_path / "model")
    unet = json.loads((model / "unet" / "config.json").read_text())
    shared = {key: unet[key] for key in SHARED} | {"attention_head_dim": unet["attention_head_dim"]}
    for seed, (name, *_) in enumerate(asked):
        more = {"conditioning_embedding_out_channels": (8, 8, 8, 8)}
        make_controlnet(tmp_path / "nets" / name, seed, **(shared | more))
    nets = [ControlNetModel.from_pretrained(tmp_path / "nets" / name) for name, *_ in asked]
    optional = {} if family == "sdxl" else {"safety_checker": None}
    theirs = PIPELINES[family].from_pretrained(
        model, controlnet=nets if len(nets) > 1 else nets[0], **optional
    )
    theirs.set_progress_bar_config(disable=True)
    theirs.scheduler = EulerDiscreteScheduler.from_config(  # four steps, at the times 999, 666, 333 and 0
        theirs.scheduler.config, timestep_spacing="linspace", steps_offset=0
    )
    pictures: Any = [a_picture(seed, 64) for seed in range(len(asked))]
    controls = tuple(
        ControlInput(
            controlnet=name, picture=store.add(read_picture(picture)), scale=scale, start=start, end=end
        )
        for picture, (name, scale, start, end) in zip(pictures, asked, strict=True)
    )
    ours = LocalEngine(load_model(model), "cpu", inputs=store, controlnets=ControlNets(tmp_path / "nets"))
    request = a_request(controls=controls, sampler="Euler", steps=4, width=64, height=64)
    _, _, denoised = draw(ours, request)  # in which Euler's last step ends
    _, scales, starts, ends = (list(each) for each in zip(*asked, strict=True))
    if len(asked) == 1:
        pictures, scales, starts, ends = pictures[0], scales[0], starts[0], ends[0]
    latents = theirs(
        "a cat", negative_prompt="dog", image=pictures, num_inference_steps=4, guidance_scale=3.0, width=64,
        height=64, latents=Noise([11]).draw((4, 8, 8)), controlnet_conditioning_scale=scales,
        control_guidance_start=starts, control_guidance_end=ends, output_type="latent",
    ).images  # fmt: skip
    with torch.inference_mode():
        theirs_pixels = theirs.vae.decode(latents / theirs.vae.config.scaling_factor).sample
        ours_pixels = ours.model.autoencoder.decode(denoised)
    assert float(theirs_pixels.std()) > 0.01
    assert float((theirs_pixels - ours_pixels).abs().max()) <= 1e-4


@settings(max_examples=6, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(scale=st.floats(0, 2), seed=st.integers(0, 9))
def test_a_net_that_was_not_trained_changes_no_pixel(
    engine: LocalEngine, store: InputStore, scale: float, seed: int
) -> None:
    plain, _, _ = draw(engine, a_request(steps=2))
    guided, _, _ = draw(
        engine, a_request(steps=2, controls=(control(store, "untrained", seed, scale=scale),))
    )
    assert (plain == guided).all()


def test_a_trained_one_changes_them_by_its_weight_and_its_picture(
    engine: LocalEngine, store: InputStore
) -> None:
    def denoised(*controls: ControlInput) -> torch.Tensor:
        return draw(engine, a_request(controls=controls))[2]

    plain, one = denoised(), denoised(control(store))
    assert not torch.allclose(plain, one, atol=1e-3)
    assert not torch.allclose(one, denoised(control(store, seed=1)), atol=1e-3)
    assert not torch.allclose(one, denoised(control(store, preprocessor="canny")), atol=1e-3)
    assert torch.equal(plain, denoised(control(store, scale=0.0)))
    assert torch.equal(plain, denoised(control(store, start=0.05, end=0.15)))  # no step lies in it


def test_picture_i_depends_neither_on_the_batch_nor_on_the_others(
    engine: LocalEngine, store: InputStore
) -> None:
    request = a_request(controls=(control(store),), count=3)
    together, result, _ = draw(engine, dataclasses.replace(request, batch_size=3))
    alone = np.concatenate([draw(engine, one)[0] for one in result.pictures])
    assert abs(together - alone).max() <= 1


@pytest.mark.parametrize("sampler", ["Euler", "Heun", "DPM++ 2M", "PLMS", "DPM++ SDE"])
def test_every_kind_of_sampler_is_guided(engine: LocalEngine, store: InputStore, sampler: str) -> None:
    request = a_request(sampler=sampler)
    plain, guided = (
        draw(engine, dataclasses.replace(request, controls=controls))[2]
        for controls in ((), (control(store),))
    )
    assert not torch.allclose(plain, guided, atol=1e-3)


def test_it_goes_with_a_start_picture_a_mask_a_second_pass_and_seamless_tiles(
    engine: LocalEngine, store: InputStore
) -> None:
    name = store.add(read_picture(a_picture(5)))
    half = Image.new("L", (SIDE_PIXELS, SIDE_PIXELS))
    half.paste(255, (16, 0, 32, 32))
    mask = store.add(read_mask(half))
    cases: list[dict[str, Any]] = [
        {"image": ImageInput(picture=name, strength=0.6)},
        {"image": ImageInput(picture=name, mask=mask, only_masked=True, mask_padding=0)},
        {"image": ImageInput(picture=name, extend=(8, 0, 0, 0))},
        {"second_pass": SecondPass(scale=1.5)},
        {"tiling": True},
        {"prompt": "a cat AND a dog"},
    ]
    for case in cases:
        plain, _, _ = draw(engine, a_request(**case))
        guided, result, _ = draw(engine, a_request(**case, controls=(control(store),)))
        assert plain.shape == guided.shape
        assert (plain != guided).any(), case
        again = GenerationRequest.from_json(result.pictures[0].to_json())
        assert (draw(engine, again)[0] == guided).all(), case


def test_of_a_part_that_is_painted_the_net_sees_that_part(engine: LocalEngine, store: InputStore) -> None:
    corner = Image.new("L", (SIDE_PIXELS, SIDE_PIXELS))
    corner.paste(255, (16, 0, 32, 16))
    image = ImageInput(
        picture=store.add(read_picture(a_picture(5))),
        mask=store.add(read_mask(corner)),
        only_masked=True,
        mask_padding=0,
    )
    guides = [a_picture(0), a_picture(0), a_picture(0)]
    guides[1].paste("red", (0, 0, 16, 32))  # not seen
    guides[2].paste("red", (16, 0, 32, 16))
    request = a_request(image=image)
    first, unseen, seen = (
        draw(
            engine,
            dataclasses.replace(
                request,
                controls=(ControlInput(controlnet="lines", picture=store.add(read_picture(one))),),
            ),
        )[2]
        for one in guides
    )
    assert torch.equal(first, unseen)
    assert not torch.allclose(first, seen, atol=1e-3)


def test_what_does_not_fit_or_is_not_there_is_a_sentence(
    engine: LocalEngine, store: InputStore, folder: Path, tmp_path: Path
) -> None:
    request = a_request(controls=(control(store, "linse"),))
    assert 'no ControlNet "linse"; did you mean "lines"? There is depth, lines' in str(
        engine.why_not(request)
    )
    gone = dataclasses.replace(control(store), picture="0" * 64)
    assert "The picture 000000000000" in str(engine.why_not(a_request(controls=(gone,))))
    with pytest.raises(RequestError, match="did you mean"):
        next(engine.generate(request))
    nets = ControlNets(folder / "controlnets")
    own = LocalEngine(make_tiny_model(tmp_path / "own"), "cpu", inputs=store, controlnets=nets)
    assert "Latent Studio's own training" in str(own.why_not(a_request(controls=(control(store),))))
    without = LocalEngine(engine.model, "cpu", inputs=store)
    assert 'There is no ControlNet "lines", or draw' in str(
        without.why_not(a_request(controls=(control(store),)))
    )


def test_openvino_leaves_it_to_torch(store: InputStore) -> None:
    class Graphs(OpenVINORunner):
        def __init__(self) -> None:  # no graph is needed to be asked
            pass

    assert "ControlNet" in str(Graphs().why_not([a_request(controls=(control(store),))]))


def test_a_net_that_was_replaced_is_read_again_and_one_not_asked_for_is_let_go(tmp_path: Path) -> None:
    nets, device = ControlNets(tmp_path), torch.device("cpu")
    make_controlnet(tmp_path / "a")
    make_controlnet(tmp_path / "b", 1)
    (first,) = nets.load(["a"], device, torch.float32)
    both = nets.load(["b", "a"], device, torch.float32)
    assert both[1] is first
    assert both[0] is not first
    make_controlnet(tmp_path / "a", 2)
    (second,) = nets.load(["a"], device, torch.float32)
    assert not torch.equal(first.conv_in.weight, second.conv_in.weight)
    assert nets.load(["b"], device, torch.float32)[0] is not both[0]
