import dataclasses
import math
import subprocess
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.defaults import GenerationDefaults
from models.errors import RequestError
from pipelines.request import (
    MAX_COUNT,
    MAX_GUIDANCE_SCALE,
    MAX_PROMPT_CHARACTERS,
    MAX_SEED,
    MAX_STEPS,
    GenerationRequest,
    drawing_size,
)
from pipelines.request_control import MAX_CONTROL_SCALE, PREPROCESSORS, ControlInput
from pipelines.request_parts import FILLS, UPSCALERS, ImageInput, SecondPass
from pipelines.result import StepEvent
from pipelines.samplers import SAMPLERS

RIGHT: dict[str, Any] = {
    "prompt": "a red apple",
    "width": 128,
    "height": 64,
    "steps": 20,
    "guidance_scale": 5.0,
    "sampler": "Euler",
    "schedule": "Karras",
    "seed": 7,
}
TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=200)
SIZES = st.integers(4, 256).map(lambda eighths: 8 * eighths)


NAMES = st.text("0123456789abcdef", min_size=64, max_size=64)
STRENGTHS = st.floats(0.51, 1)
IMAGES = st.builds(
    ImageInput,
    picture=NAMES,
    strength=STRENGTHS,
    mask=st.none() | NAMES,
    mask_blur=st.integers(0, 64),
    only_masked=st.booleans(),
    mask_padding=st.integers(0, 256),
    fill=st.sampled_from(FILLS),
    extend=st.tuples(*[st.integers(0, 1024)] * 4),
)
SECOND_PASSES = st.builds(
    SecondPass,
    scale=st.floats(1, 1.5),
    strength=STRENGTHS,
    steps=st.none() | st.integers(1, 150),
    upscaler=st.sampled_from(UPSCALERS),
)


CONTROLS = st.builds(
    ControlInput,
    controlnet=TEXT,
    picture=NAMES,
    preprocessor=st.sampled_from(PREPROCESSORS),
    scale=st.floats(0, MAX_CONTROL_SCALE),
    start=st.floats(0, 0.49),
    end=st.floats(0.5, 1),
)


@st.composite
def requests(draw: st.DrawFn) -> GenerationRequest:
    sampler = draw(st.sampled_from(sorted(SAMPLERS)))
    image = draw(st.none() | IMAGES)
    second = draw(st.none() | SECOND_PASSES) if image is None or not image.paints_a_part else None
    sizes = SIZES if second is None else st.integers(4, 160).map(lambda eighths: 8 * eighths)
    return GenerationRequest(
        prompt=draw(TEXT),
        negative_prompt=draw(TEXT),
        width=draw(sizes),
        height=draw(sizes),
        steps=draw(st.integers(1, MAX_STEPS)),
        guidance_scale=draw(st.floats(0, MAX_GUIDANCE_SCALE)),
        sampler=sampler,
        schedule=draw(st.sampled_from(SAMPLERS[sampler].schedules)),
        seed=draw(st.none() | st.integers(0, MAX_SEED - MAX_COUNT)),
        count=draw(st.integers(1, MAX_COUNT)),
        noise=draw(st.sampled_from(["cpu", "nv"])),
        instant=draw(st.booleans()),
        styles=draw(st.lists(TEXT, max_size=3)),
        template=draw(st.none() | TEXT),
        negative_template=draw(st.none() | TEXT),
        tiling=draw(st.booleans()),
        variation_seed=draw(st.none() | st.integers(0, MAX_SEED - MAX_COUNT)),
        variation_strength=draw(st.floats(0, 1)),
        image=image,
        second_pass=second,
        guidance_start=draw(st.floats(0, 0.49)),
        guidance_end=draw(st.floats(0.5, 1)),
        batch_size=draw(st.none() | st.integers(1, MAX_COUNT)),
        controls=tuple(draw(st.lists(CONTROLS, max_size=2))),
    )


PICTURE = "0" * 64


def image(**changes: Any) -> dict[str, Any]:
    return {"image": {"picture": PICTURE} | changes}


def controls(**changes: Any) -> dict[str, Any]:
    return {"controls": [{"controlnet": "lines", "picture": PICTURE} | changes]}


WRONG: list[tuple[str, dict[str, Any], str]] = [
    ("zero steps", {"steps": 0}, "steps must be from 1 to 150, not 0"),
    ("negative steps", {"steps": -3}, "steps must be"),
    ("too many steps", {"steps": 151}, "not 151"),
    ("steps as a boolean", {"steps": True}, "steps must be a whole number, not true"),
    ("steps as text", {"steps": "20"}, 'steps must be a whole number, not "20"'),
    ("steps with a fraction", {"steps": 20.0}, "steps must be a whole number, not 20.0"),
    ("steps beyond writing", {"steps": 10**5000}, "more than 60 digits"),
    ("width off the grid", {"width": 100}, "multiple of 8 pixels, not 100; try 96"),
    ("height off the grid", {"height": 2047}, "height must be a multiple of 8 pixels, not 2047; try 2048"),
    ("width zero", {"width": 0}, "width must be from 32 to 2048 pixels, not 0"),
    ("height huge", {"height": 4096}, "not 4096"),
    ("width missing its type", {"width": None}, "width must be a whole number, not null"),
    ("guidance not a number", {"guidance_scale": math.nan}, "not NaN"),
    ("guidance infinite", {"guidance_scale": math.inf}, "not infinity"),
    ("guidance negative", {"guidance_scale": -1}, "from 0 to 30, not -1"),
    ("guidance too high", {"guidance_scale": 31}, "not 31"),
    ("guidance beyond floats", {"guidance_scale": 10**400}, "more than 60 digits"),
    ("guidance that starts where it ends", {"guidance_start": 0.5, "guidance_end": 0.5}, "must be below"),
    ("guidance from outside", {"guidance_start": -0.1}, "guidance_start must be a number from 0 to 1"),
    ("guidance to outside", {"guidance_end": 1.1}, "guidance_end must be a number from 0 to 1"),
    ("no pictures at once", {"batch_size": 0}, "batch_size must be from 1 to"),
    ("guidance as text", {"guidance_scale": "5"}, "guidance_scale must be a number"),
    ("guidance as a boolean", {"guidance_scale": False}, "guidance_scale must be a number"),
    ("unknown sampler", {"sampler": "Eular"}, 'Unknown sampler "Eular": did you mean "Euler"'),
    ("sampler no name", {"sampler": 3}, "sampler must be a name"),
    ("unknown schedule", {"schedule": "Karas"}, 'did you mean "Karras"'),
    ("schedule not taken", {"sampler": "DDIM"}, "DDIM does not take the schedule Karras; it takes Automatic"),
    ("no image", {"count": 0}, "count must be from 1 to 100"),
    ("too many images", {"count": 101}, "not 101"),
    ("seed negative", {"seed": -1}, "seed must be from 0 to 4294967295, not -1"),
    ("seed too large", {"seed": 2**32}, "seed must be"),
    ("seeds past the largest", {"seed": 2**32 - 1, "count": 2}, "would pass the largest seed"),
    ("seed as a boolean", {"seed": True}, "seed must be a whole number"),
    ("prompt too long", {"prompt": "x" * (MAX_PROMPT_CHARACTERS + 1)}, "prompt has 10001 characters"),
    ("prompt no text", {"prompt": None}, "prompt must be text"),
    ("prompt of bytes", {"negative_prompt": b"x"}, "negative_prompt must be text, not a bytes"),
    ("prompt with a null", {"prompt": "a\0b"}, "not text"),
    ("prompt with half a surrogate", {"prompt": "\ud800"}, "not text"),
    ("unknown noise", {"noise": "gpu"}, 'noise must be "cpu" or "nv"'),
    ("instant in words", {"instant": "yes"}, 'instant must be true or false, not "yes"'),
    ("instant as a number", {"instant": 1}, "instant must be true or false, not 1"),
    ("styles as one text", {"styles": "ink"}, 'styles must be a list of names, not "ink"'),
    ("styles of numbers", {"styles": [3]}, "a style must be text, not 3"),
    ("too many styles", {"styles": ["ink"] * 21}, "styles names 21 styles; at most 20"),
    ("template no text", {"template": 3}, "template must be text"),
    ("unhashable noise", {"noise": ["cpu"]}, "noise must be"),
    ("tiling as a number", {"tiling": 1}, "tiling must be true or false, not 1"),
    ("variation too strong", {"variation_strength": 1.5}, "from 0 to 1, not 1.5"),
    ("variation seed negative", {"variation_seed": -1}, "variation_seed must be from 0"),
    (
        "variations past the largest seed",
        {"variation_seed": 2**32 - 1, "variation_strength": 0.5, "count": 2},
        "variation_seed 4294967295 with count 2 would pass",
    ),
    ("image as a path", {"image": "cat.png"}, "image must be an object with picture, strength"),
    ("picture by path", image(picture="cat.png"), 'sha256 of a stored picture, not "cat.png"'),
    ("picture outside the store", image(picture="../" + "0" * 61), "sha256"),
    ("image without a picture", {"image": {"strength": 0.5}}, "ImageInput lacks picture"),
    ("image of another field", image(strenght=0.5), 'Unknown field "strenght" in ImageInput'),
    ("strength above 1", image(strength=1.01), "strength must be a number from 0 to 1, not 1.01"),
    ("strength that does nothing", image(strength=0.02), "strength 0.02 of 20 steps is no step at all"),
    ("mask no name", image(mask=""), "mask must be the sha256"),
    ("blur negative", image(mask_blur=-1), "mask_blur must be from 0 to 64 pixels"),
    ("padding in words", image(mask_padding="wide"), 'mask_padding must be a whole number, not "wide"'),
    ("only_masked in words", image(only_masked="yes"), "only_masked must be true or false"),
    ("unknown fill", image(fill="red"), '"latent noise" or "latent nothing", not "red"'),
    ("three sides", image(extend=[8, 8, 8]), "extend must be four numbers of pixels"),
    ("sides in words", image(extend="8888"), "extend must be four numbers"),
    ("a side too far", image(extend=[0, 0, 0, 1025]), "extend must be from 0 to 1024 pixels"),
    ("controls as a name", {"controls": "lines"}, "controls must be a list of objects with controlnet"),
    ("controls of names", {"controls": ["lines"]}, "controls must be a list of objects"),
    ("too many controls", {"controls": controls()["controls"] * 5}, "names 5 ControlNets; at most 4"),
    ("a net of no name", controls(controlnet=3), "controlnet must be text, not 3"),
    ("a net's picture by path", controls(picture="cat.png"), 'sha256 of a stored one, not "cat.png"'),
    ("unknown preprocessor", controls(preprocessor="hed"), '"none" or "canny", not "hed"'),
    ("a net too strong", controls(scale=2.5), "controls.scale must be a number from 0 to 2, not 2.5"),
    ("a net that ends before", controls(start=0.6, end=0.4), "controls.start must be below controls.end"),
    ("a net of another field", controls(weight=1), 'Unknown field "weight" in ControlInput'),
    ("scale below 1", {"second_pass": {"scale": 0.5}}, "second_pass.scale must be a number from 1 to 4"),
    ("unknown upscaler", {"second_pass": {"upscaler": "4x"}}, 'must be "Latent" or "Lanczos", not "4x"'),
    ("no second step", {"second_pass": {"steps": 1, "strength": 0.4}}, "strength 0.4 of 1 steps"),
    ("second pass too large", {"width": 1024, "second_pass": {"scale": 3}}, "would pass 2048 pixels"),
    (
        "second pass over a mask",
        image(mask=PICTURE) | {"second_pass": {}},
        "would change what lies outside the mask",
    ),
]


@pytest.mark.parametrize(("changes", "sentence"), [w[1:] for w in WRONG], ids=[w[0] for w in WRONG])
def test_a_wrong_request_is_refused_in_one_sentence(changes: dict[str, Any], sentence: str) -> None:
    GenerationRequest(**RIGHT)
    with pytest.raises(RequestError) as caught:
        GenerationRequest.from_dict(RIGHT | changes)
    message = str(caught.value)
    assert sentence in message
    assert "\n" not in message
    assert len(message) < 300


@given(requests())
def test_json_gives_the_same_request_back(request: GenerationRequest) -> None:
    again = GenerationRequest.from_json(request.to_json())
    assert again == request
    assert hash(again) == hash(request)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "3",
        "{",
        '{"prompt": "x"}',
        "[" * 100_000,
        '{"steps": ' + "9" * 5000 + "}",
        "null",
        b"\xff\xfe",
    ],
)
def test_json_that_is_no_request_is_refused(text: str | bytes) -> None:
    with pytest.raises(RequestError):
        GenerationRequest.from_json(text)


def test_an_unknown_field_is_refused_by_name() -> None:
    with pytest.raises(RequestError, match='Unknown field "stpes"'):
        GenerationRequest.from_dict(RIGHT | {"stpes": 3})


def test_names_are_kept_as_the_table_spells_them() -> None:
    request = GenerationRequest(
        **(RIGHT | {"sampler": "dpm++ 2m", "schedule": "karras", "guidance_scale": 0})
    )
    assert (request.sampler, request.schedule) == ("DPM++ 2M", "Karras")
    assert request.guidance_scale == 0.0
    assert request == GenerationRequest(**(RIGHT | {"sampler": "DPM++ 2M", "guidance_scale": 0.0}))


DEFAULTS = GenerationDefaults(
    width=64, height=96, steps=12, guidance_scale=3.0, sampler="Heun", schedule="Karras"
)


def test_what_is_not_given_comes_from_the_model() -> None:
    request = GenerationRequest.from_options({"prompt": "x", "steps": None}, DEFAULTS)
    expected = dataclasses.asdict(DEFAULTS) | {"prompt": "x", "instant": False}
    assert request == GenerationRequest(**expected)


def test_an_instant_request_takes_what_the_student_needs() -> None:
    student = GenerationDefaults(width=64, height=96, steps=4, guidance_scale=1.0, sampler="Euler")
    both = dataclasses.replace(DEFAULTS, instant=student)
    request = GenerationRequest.from_options({"prompt": "x", "instant": True, "width": 32}, both)
    expected = dataclasses.asdict(student) | {"prompt": "x", "instant": True, "width": 32}
    assert request == GenerationRequest(**expected)
    for slow in ({}, {"instant": False}, {"instant": None}):
        assert GenerationRequest.from_options({"prompt": "x", **slow}, both).steps == DEFAULTS.steps
    with pytest.raises(RequestError, match="no student"):
        GenerationRequest.from_options({"prompt": "x", "instant": True}, DEFAULTS)


def test_zero_is_given_and_not_unset() -> None:
    request = GenerationRequest.from_options({"prompt": "", "guidance_scale": 0, "seed": 0}, DEFAULTS)
    assert (request.guidance_scale, request.seed) == (0.0, 0)
    with pytest.raises(RequestError, match="steps"):
        GenerationRequest.from_options({"prompt": "", "steps": 0}, DEFAULTS)


def test_a_sampler_of_ones_own_does_not_inherit_the_schedule() -> None:
    request = GenerationRequest.from_options({"prompt": "", "sampler": "DDIM"}, DEFAULTS)
    assert (request.sampler, request.schedule) == ("DDIM", "Automatic")


def test_minus_one_is_a_random_seed() -> None:
    request = GenerationRequest.from_options({"prompt": "", "seed": -1, "count": 100}, DEFAULTS)
    assert request.seed is None
    seeds = {request.resolve().seed for _ in range(20)}
    assert len(seeds) == 20
    assert all(seed is not None and 0 <= seed <= MAX_SEED - 99 for seed in seeds)
    with pytest.raises(RequestError):
        GenerationRequest.from_options({"prompt": "", "seed": -1.0}, DEFAULTS)


def test_resolving_keeps_a_seed_and_an_image_has_its_own() -> None:
    request = GenerationRequest(**(RIGHT | {"count": 4, "seed": 0}))
    assert request.resolve() is request
    third = request.for_image(2)
    assert (third.seed, third.count) == (2, 1)


def test_what_was_typed_is_found_again() -> None:
    typed = GenerationRequest(**(RIGHT | {"prompt": "a {red|blue} apple", "negative_prompt": "__dark__"}))
    assert typed.as_typed() is typed
    expanded = dataclasses.replace(
        typed, prompt="a red apple", negative_prompt="night", template=typed.prompt,
        negative_template=typed.negative_prompt,
    )  # fmt: skip
    assert expanded.as_typed() == typed


def test_variations_count_their_own_seed() -> None:
    request = GenerationRequest(**(RIGHT | {"count": 4, "variation_strength": 0.2})).resolve()
    assert request.seed == 7
    assert request.variation_seed is not None
    third = request.for_image(2)
    assert (third.seed, third.variation_seed) == (7, request.variation_seed + 2)
    assert len({request.for_image(i).counted_seed for i in range(4)}) == 4
    plain = GenerationRequest(**(RIGHT | {"count": 4, "variation_seed": 3})).for_image(2)
    assert (plain.seed, plain.variation_seed, plain.counted_seed) == (9, 3, 9)


def test_the_strength_says_how_many_steps_are_done() -> None:
    for strength, steps, done in ((0.75, 20, 15), (1, 7, 7), (0.5, 7, 4), (0.03, 20, 1), (0.1, 150, 15)):
        assert ImageInput(picture=PICTURE, strength=strength).steps_done(steps) == done
    assert SecondPass(strength=0.5, steps=10).steps_done(20) == 5
    assert SecondPass(strength=0.5).steps_done(20) == 10


@given(
    st.tuples(st.integers(16, 4096), st.integers(16, 4096)), st.sampled_from([64, 128, 512]),
    st.sampled_from([8, 16]),
)  # fmt: skip
def test_a_picture_is_drawn_at_a_size_the_model_can_draw(
    picture: tuple[int, int], side: int, multiple: int
) -> None:
    width, height = drawing_size(picture, (side, side), multiple)
    GenerationRequest(**(RIGHT | {"width": width, "height": height}))
    assert width % multiple == height % multiple == 0
    if picture == (width, height):
        assert side**2 / 2 <= width * height <= 4 * side**2
    if max(picture) <= 4 * min(picture):
        assert 0.4 * side**2 <= width * height <= 5 * side**2


def test_a_picture_of_the_models_own_size_is_not_resized() -> None:
    for size in ((128, 128), (192, 128), (256, 256), (96, 104)):
        assert drawing_size(size, (128, 128), 8) == size
    assert drawing_size((4000, 3000), (128, 128), 8) == (144, 112)


def test_progress_runs_from_nothing_to_one() -> None:
    def event(first: int, step: int) -> StepEvent:
        return StepEvent(
            image_index=first, images=2, step=step, total=4, sigma=1.0, latents=None, denoised=None
        )

    assert event(0, 2).fraction_done(4) == 0.25
    assert event(2, 4).fraction_done(4) == 1.0


def test_a_request_is_checked_without_torch() -> None:
    code = "import sys, pipelines.request; sys.exit('torch' in sys.modules or 'diffusers' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
