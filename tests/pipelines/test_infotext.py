import dataclasses
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from pipelines.infotext import (
    NEGATIVE,
    options_from_infotext,
    parse_infotext,
    unused_settings,
    write_infotext,
)
from pipelines.request import GenerationRequest
from tests.pipelines.test_request import RIGHT, TEXT, requests

# Texts that other programs wrote, with what AUTOMATIC1111's own reader finds in them.
DOCSTRING = (
    "girl with an artist's beret, by Alphonse Mucha and C. Bowater, ((eyeshadow)), intricate\n"
    "Negative prompt: ugly, (((deformed))), [blurry]\n"
    "Steps: 20, Sampler: Euler a, CFG scale: 7, Seed: 965400086, Size: 512x512, Model hash: 45dee52b"
)
NEWLINE_IN_VALUE = (
    "cat\nNegative prompt: dog\nSteps: 20, Sampler: Euler a, CFG scale: 7, Seed: 1, Size: 64x64, "
    'Wildcard prompt: "line one\\nline two, \\"q\\" __x__", Version: v1.6.0'
)


def test_the_text_is_the_one_of_automatic1111() -> None:
    request = GenerationRequest(**(RIGHT | {"negative_prompt": "blue", "prompt": "an apple,\non a table"}))
    assert write_infotext(request, "my: model", "0123456789", "Latent Studio") == (
        "an apple,\non a table\n"
        "Negative prompt: blue\n"
        "Steps: 20, Sampler: Euler, Schedule type: Karras, CFG scale: 5, Seed: 7, Size: 128x64, "
        'Model hash: 0123456789, Model: "my: model", RNG: CPU, Version: Latent Studio'
    )


def test_an_instant_picture_says_so_and_no_other_does() -> None:
    for instant in (False, True):
        text = write_infotext(GenerationRequest(**(RIGHT | {"instant": instant})), "m", "1", "v")
        assert ("Instant: True" in text) is instant
        assert options_from_infotext(parse_infotext(text)).get("instant", False) is instant


def test_what_a_picture_and_a_second_pass_were_is_in_the_text() -> None:
    image = {"picture": "ab" * 32, "strength": 0.5, "mask": "cd" * 32, "fill": "latent noise"}
    painted = {"variation_seed": 9, "variation_strength": 0.25, "image": image, "tiling": True}
    text = write_infotext(GenerationRequest.from_dict(RIGHT | painted), "m", "1", "v")
    assert text.endswith(
        "Model hash: 1, Model: m, Variation seed: 9, Variation seed strength: 0.25, Denoising strength: 0.5, "
        "Init image hash: ababababab, RNG: CPU, Denoising steps: 10, Tiling: True, Mask blur: 4, "
        "Masked content: latent noise, Version: v"
    )
    options = options_from_infotext(parse_infotext(text))
    assert (options["variation_seed"], options["variation_strength"], options["tiling"]) == (9, 0.25, True)
    second = {"scale": 1.5, "strength": 0.4, "steps": 12, "upscaler": "Latent"}
    request = GenerationRequest.from_dict(RIGHT | {"second_pass": second})
    text = write_infotext(request, "m", "1", "v")
    assert (
        "Denoising strength: 0.4, RNG: CPU, Denoising steps: 5, Hires upscale: 1.5, Hires steps: 12, " in text
    )
    assert GenerationRequest.from_dict(RIGHT | options_from_infotext(parse_infotext(text))) == request


def test_the_controlnets_are_in_the_text_as_their_extension_writes_them() -> None:
    named = {"picture": "ab" * 32, "preprocessor": "canny", "scale": 0.75, "end": 0.5}
    nets = [{"controlnet": "lines", **named}, {"controlnet": "a: b, c", "picture": "cd" * 32}]
    request = GenerationRequest.from_dict(RIGHT | {"controls": nets})
    settings = parse_infotext(write_infotext(request, "m", "1", "v"))
    assert settings["ControlNet 0"] == (
        "Module: canny, Model: lines, Weight: 0.75, Resize Mode: Crop and Resize, Guidance Start: 0, "
        "Guidance End: 0.5"
    )
    fields = dict(field.split(": ") for field in settings["ControlNet 1"].split(", "))  # as it reads them
    assert fields["Model"] == "a  b  c"
    assert settings["Version"] == "v"


def test_an_interval_of_guidance_is_in_the_text_where_it_is_not_the_whole() -> None:
    request = GenerationRequest(**(RIGHT | {"guidance_start": 0.25, "guidance_end": 0.8}))
    text = write_infotext(request, "m", "1", "v")
    assert "Guidance start: 0.25, Guidance end: 0.8, " in text
    assert GenerationRequest.from_dict(RIGHT | options_from_infotext(parse_infotext(text))) == request
    assert "Guidance start" not in write_infotext(GenerationRequest(**RIGHT), "m", "1", "v")
    senseless = text.replace("start: 0.25", "start: 0.9")
    assert "guidance_start" not in options_from_infotext(parse_infotext(senseless))


def test_no_negative_prompt_no_line() -> None:
    text = write_infotext(GenerationRequest(**(RIGHT | {"guidance_scale": 7.5})), "m", "1", "v")
    assert text.count("\n") == 1
    assert "CFG scale: 7.5," in text


def test_the_docstring_of_automatic1111() -> None:
    found = parse_infotext(DOCSTRING)
    assert found == {
        "Prompt": "girl with an artist's beret, by Alphonse Mucha and C. Bowater, ((eyeshadow)), intricate",
        "Negative prompt": "ugly, (((deformed))), [blurry]",
        "Steps": "20",
        "Sampler": "Euler a",
        "CFG scale": "7",
        "Seed": "965400086",
        "Size": "512x512",
        "Model hash": "45dee52b",
    }
    assert options_from_infotext(found) == {
        "prompt": found["Prompt"],
        "negative_prompt": found["Negative prompt"],
        "steps": 20,
        "seed": 965400086,
        "guidance_scale": 7.0,
        "width": 512,
        "height": 512,
        "sampler": "Euler a",
        "schedule": "Automatic",
    }


CASES: list[tuple[str, str, dict[str, str]]] = [
    (
        "quoted value",
        NEWLINE_IN_VALUE,
        {"Wildcard prompt": 'line one\nline two, "q" __x__', "Version": "v1.6.0"},
    ),
    (
        "JSON value whole",
        'photo\nSteps: 15, Sampler: UniPC, Seed: 2, Hashes: {"vae": "c6a5", "model": "c0d1"}, Clip skip: 2',
        {"Hashes": '{"vae": "c6a5", "model": "c0d1"}', "Clip skip": "2"},
    ),
    (
        "JSON list whole",
        'Steps: 8, Sampler: Euler, Created Date: 2024-12-22T01:01:01.0Z, Civitai resources: [{"type":"lora",'
        '"weight":1}], Civitai metadata: {"remixOfId":111}',
        {
            "Prompt": "",
            "Created Date": "2024-12-22T01:01:01.0Z",
            "Civitai resources": '[{"type":"lora","weight":1}]',
            "Civitai metadata": '{"remixOfId":111}',
        },
    ),
    (
        "bracket never closed",
        'Steps: 20, Missing: {"name": [unclosed, But: the parser, fields: after it',
        {"Steps": "20", "Missing": '{"name": [unclosed', "But": "the parser", "fields": "after it"},
    ),
    ("no spaces", "Steps:30,Sampler:DPM++2MKarras,Seed:22,Size:640x896", {"Steps": "30", "Size": "640x896"}),
    (
        "no Steps",
        'Name: "John, Doe", Json: {"key:with:colon": "value, x"}, It still: works',
        {"Name": "John, Doe"},
    ),
    (
        "lines behind the settings",
        "1girl\nNegative prompt: low\nSteps: 20, Sampler: DPM++ SDE Karras, Seed: 7\nTemplate: 1girl, __x__",
        {"Prompt": "1girl", "Negative prompt": "low", "Seed": "7", "Template": "1girl, __x__"},
    ),
    (
        "two settings",
        "first line,\nsecond line\nNegative prompt: bad\nSteps: 20, Sampler: Euler",
        {"Prompt": "first line,\nsecond line", "Negative prompt": "bad", "Sampler": "Euler"},
    ),
    ("prompt alone", "simple prompt", {"Prompt": "simple prompt", "Negative prompt": ""}),
    (
        "the words inside a prompt",
        "text Negative prompt: stays\nSteps: 5, Sampler: DDIM, CFG scale: 3",
        {"Prompt": "text Negative prompt: stays", "Negative prompt": ""},
    ),
    (
        "all on one line",
        "a cat Negative prompt: a dog Steps: 20, Sampler: Euler a, CFG scale: 7, Seed: 1",
        {"Prompt": "a cat", "Negative prompt": "a dog", "Steps": "20", "Sampler": "Euler a"},
    ),
    ("equal names", "Steps: 1, Seed: 2, Size: 8x8, Seed: 3", {"Seed": "3"}),
    (
        "extra commas",
        "x\nSteps: 20,, Sampler: Euler,,, Seed: 3,",
        {"Steps": "20", "Sampler": "Euler", "Seed": "3"},
    ),
    ("empty value", "x\nSteps: 20, Lora: , Seed: 3", {"Lora": "", "Seed": "3"}),
]


@pytest.mark.parametrize(("text", "expected"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_what_other_programs_wrote_is_read(text: str, expected: dict[str, str]) -> None:
    found = parse_infotext(text)
    assert {key: found.get(key) for key in expected} == expected


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"Sampler": "DPM++ 2M Karras"}, {"sampler": "DPM++ 2M", "schedule": "Karras"}),
        ({"Sampler": "DPM++ 2M", "Schedule type": "Beta"}, {"sampler": "DPM++ 2M", "schedule": "Beta"}),
        ({"Sampler": "Restart"}, {}),
        (
            {"Sampler": "Euler", "Schedule type": "SGM Uniform"},
            {"sampler": "Euler", "schedule": "Uniform"},
        ),
        (
            {"Sampler": "Euler", "Schedule type": "KL Optimal"},
            {"sampler": "Euler", "schedule": "Automatic"},
        ),
        ({"Sampler": "Euler a Karras"}, {"sampler": "Euler a", "schedule": "Automatic"}),
        ({"Steps": "9" * 30, "Seed": "-1", "Size": "0x", "CFG scale": "nan"}, {}),
        ({"RNG": "NV"}, {"noise": "nv"}),
    ],
)
def test_only_what_is_understood_becomes_an_option(
    settings: dict[str, str], expected: dict[str, Any]
) -> None:
    assert options_from_infotext(settings) == {"prompt": "", "negative_prompt": ""} | expected


@given(st.text())
def test_any_text_at_all_is_read(text: str) -> None:
    options_from_infotext(parse_infotext(text))


@given(st.text(alphabet='Steps: 12,"{}[]\\\nNegative prompt:SeedSizex', max_size=300))
def test_any_text_of_the_right_letters_is_read(text: str) -> None:
    found = parse_infotext(text)
    assert all(isinstance(value, str) for value in found.values())


TEXT_LINES = st.lists(TEXT.map(lambda words: " ".join(words.split())), max_size=4).map("\n".join)


@st.composite
def holdable(draw: st.DrawFn) -> GenerationRequest:
    # The text knows no spaces around a line, no empty line at the start of a prompt, and no line of words
    # that begins like the negative prompt's.
    prompt, negative = draw(TEXT_LINES).lstrip("\n"), draw(TEXT_LINES)
    assume(not any(line.startswith(NEGATIVE) for line in f"{prompt}\n{negative}".split("\n")))
    asked = draw(requests()).resolve().for_image(0)
    # Nor what was typed before styles and wildcards became words, nor the pictures that it was drawn with.
    lost: dict[str, Any] = {"styles": (), "template": None, "negative_template": None}
    lost |= {"image": None, "controls": ()}
    if not asked.variation_strength:
        lost["variation_seed"] = None
    return dataclasses.replace(asked, prompt=prompt, negative_prompt=negative, **lost)


@given(holdable(), TEXT, TEXT)
@settings(max_examples=120)
def test_what_is_written_is_read_back(request: GenerationRequest, model_name: str, version: str) -> None:
    found = parse_infotext(write_infotext(request, model_name, "0123456789", version))
    options = options_from_infotext(found)
    assert GenerationRequest.from_options(options, {}) == request
    assert (found["Model"], found["Version"]) == (model_name, version)
    assert unused_settings(found, options) == {}


@pytest.mark.parametrize("guidance", [0.0, 1e-5, 5e-324, 0.1 + 0.2, 30.0, 1.0000000000000002, 12345e-8])
def test_any_guidance_is_read_back(guidance: float) -> None:
    request = GenerationRequest(**(RIGHT | {"guidance_scale": guidance}))
    text = write_infotext(request, "m", "1", "v")
    assert options_from_infotext(parse_infotext(text))["guidance_scale"] == guidance


def test_what_is_not_used_is_named() -> None:
    found = parse_infotext(
        "a cat\nSteps: 20, Sampler: Restart, Seed: 1, Model: m, Clip skip: 2, Lora: , ENSD: 3"
    )
    assert unused_settings(found, options_from_infotext(found)) == {
        "Sampler": "Restart",
        "Clip skip": "2",
        "ENSD": "3",
    }
