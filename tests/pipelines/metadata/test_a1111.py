"""What AUTOMATIC1111's own reader finds in texts, as tests/fixtures/a1111.json has it, and ours."""

import io
import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from pipelines.export import encode_picture
from pipelines.infotext import write_infotext
from pipelines.metadata.a1111 import DEFAULTS, a1111_fields
from pipelines.request import GenerationRequest
from pipelines.samplers import split_fused_name
from tests.pipelines.test_request import RIGHT

FIXTURE = json.loads((Path(__file__).parents[2] / "fixtures" / "a1111.json").read_text(encoding="utf-8"))
CASES = FIXTURE["infotext"]["cases"]

# Where that program's reader loses something, ours does not: the reason, and what ours reads there.
DIFFERENCES: dict[str, tuple[str, dict[str, str]]] = {
    "duck_hashes": (
        "JSON kept whole: Hashes",
        {"Hashes": '{"vae": "c6a580b13a", "model": "c0d1994c73"}'},
    ),
    "sm_quoted_json": (
        "JSON kept whole",
        {"Json": '{"key:with:colon": "value, with, comma"}'},
    ),
    "sm_civitai": (
        "JSON kept whole: Civitai resources",
        {
            "Civitai resources": '[{"type":"checkpoint","modelVersionId":123456,"modelName":"Some model '
            'name here [Pony XL] which hopefully doesnt contains half pair of quotes and brackets",'
            '"modelVersionName":"v2.0"},{"type":"lora","weight":1,"modelVersionId":222222222,'
            '"modelName":"another name","modelVersionName":"v1.0"}]'
        },
    ),
    "dynprompts_template_after_params": (
        "text after the settings line",
        {
            "Negative prompt": "(worst quality, low quality:1.4)",
            "Template": "1girl, __haircolor__",
            "Negative Template": "(worst quality, low quality:1.4), __badprompt__",
            "Steps": "20",
            "Sampler": "DPM++ SDE Karras",
            "CFG scale": "6",
            "Seed": "780207036",
            "Size-1": "512",
            "Size-2": "768",
            "Model hash": "0873291ac5",
            "Model": "AbyssOrangeMix2_nsfw",
            "Denoising strength": "0.2",
            "ENSD": "31337",
            "Mask blur": "1",
            "SD upscale overlap": "64",
            "SD upscale upscaler": "4x_Valar_v1",
        },
    ),
    "ts_multiline": (
        "fewer than three settings",
        {"Negative prompt": "negative content", "Steps": "20", "Sampler": "Euler"},
    ),
}


@pytest.mark.parametrize("case", CASES, ids=[case["id"] for case in CASES])
def test_texts_are_read_as_automatic1111_reads_them(case: dict[str, Any]) -> None:
    _, ours = DIFFERENCES.get(case["id"], ("", {}))
    assert ours.items().isdisjoint(case["a1111_fields"].items())  # each difference named is one
    assert a1111_fields(case["text"]) == DEFAULTS | case["a1111_fields"] | ours


def test_what_a_text_does_not_say_is_what_automatic1111_takes_it_for() -> None:
    # Emphasis stands in each of the cases instead.
    assert FIXTURE["infotext"]["defaults_added_when_missing"] | {"Emphasis": "Original"} == DEFAULTS


@pytest.mark.parametrize(
    "case", FIXTURE["sampler_name_split"], ids=lambda case: str(case["infotext_sampler"])
)
def test_fused_sampler_names_are_split_as_its_api_does(case: dict[str, Any]) -> None:
    sampler, schedule = split_fused_name(case["infotext_sampler"])
    assert [sampler, schedule or "Automatic"] == case["api"]


@pytest.mark.parametrize("format", ["JPEG", "WebP"])
def test_the_text_stands_in_the_user_comment_of_other_formats(format: Any) -> None:
    assert "b'UNICODE\\0' + text in UTF-16BE" in FIXTURE["exif_usercomment"]["jpg_webp_avif"]
    request = GenerationRequest(**(RIGHT | {"prompt": "ein Äpfelchen, 蘋果 \U0001f34e"}))
    data = encode_picture(Image.new("RGB", (8, 8)), format, request, model_name="m", model_id="1")
    with Image.open(io.BytesIO(data)) as image:
        comment = image.getexif().get_ifd(0x8769)[0x9286]
    text = write_infotext(request, "m", "1", "Latent Studio")
    assert comment == b"UNICODE\0" + text.encode("utf-16-be")
