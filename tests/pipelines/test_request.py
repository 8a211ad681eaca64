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
    StepEvent,
)
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


@st.composite
def requests(draw: st.DrawFn) -> GenerationRequest:
    sampler = draw(st.sampled_from(sorted(SAMPLERS)))
    return GenerationRequest(
        prompt=draw(TEXT),
        negative_prompt=draw(TEXT),
        width=draw(SIZES),
        height=draw(SIZES),
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
    )


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
]


@pytest.mark.parametrize(("changes", "sentence"), [w[1:] for w in WRONG], ids=[w[0] for w in WRONG])
def test_a_wrong_request_is_refused_in_one_sentence(changes: dict[str, Any], sentence: str) -> None:
    GenerationRequest(**RIGHT)
    with pytest.raises(RequestError) as caught:
        GenerationRequest(**(RIGHT | changes))
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
