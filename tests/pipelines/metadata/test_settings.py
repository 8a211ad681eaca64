"""Pictures of other programs, in the formats that they document, and of nobody's."""

import io
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from pipelines.metadata.settings import PictureSettings, read_settings
from pipelines.request import GenerationRequest
from tests.pipelines.metadata.pictures import (
    COMFYUI,
    FLUX,
    FOOOCUS,
    FOOOCUS_TEXT,
    INVOKEAI,
    WORKFLOW,
    comfyui_png,
    node,
    png,
    with_exif,
)

A1111_TEXT = (
    "a cat\nNegative prompt: dog\n"
    "Steps: 20, Sampler: DPM++ 2M Karras, CFG scale: 7, Seed: 12, Size: 512x768, Model: x"
)
A1111_OPTIONS = {
    "prompt": "a cat",
    "negative_prompt": "dog",
    "steps": 20,
    "seed": 12,
    "guidance_scale": 7.0,
    "width": 512,
    "height": 768,
    "sampler": "DPM++ 2M",
    "schedule": "Karras",
}


def read(data: bytes) -> PictureSettings:
    found = read_settings(data)
    assert found is not None
    return found


def in_user_comment(text: str, order: str = "utf-16-be") -> dict[int, bytes]:
    return {0x9286: b"UNICODE\0" + text.encode(order)}


@pytest.mark.parametrize(
    "data",
    [
        png({"parameters": A1111_TEXT}),
        png({"parameters": A1111_TEXT}, packed=True),
        with_exif("JPEG", {}, in_user_comment(A1111_TEXT)),
        with_exif("WEBP", {}, in_user_comment(A1111_TEXT)),
        with_exif("WEBP", {}, in_user_comment(A1111_TEXT, "utf-16-le")),
        with_exif("JPEG", {}, {0x9286: b"ASCII\0\0\0" + A1111_TEXT.encode()}),
        with_exif("AVIF", {}, in_user_comment(A1111_TEXT)),
    ],
    ids=["PNG", "PNG packed", "JPEG", "WebP", "WebP low byte first", "JPEG in ASCII", "AVIF"],
)
def test_automatic1111s_text_is_found_in_every_format(data: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.picture").write_bytes(data)
    for source in (data, io.BytesIO(data), tmp_path / "a.picture", str(tmp_path / "a.picture")):
        found = read_settings(source)
        assert found is not None
        assert (found.program, found.options, found.left) == ("AUTOMATIC1111", A1111_OPTIONS, {})
        assert (found.model_name, found.request) == ("x", None)


def test_what_a_request_cannot_hold_is_named_with_the_reason() -> None:
    found = read(
        png({"parameters": "a cat\nSteps: 200, Sampler: Restart, Seed: 12346789098, Size: 500x512, ENSD: 3"})
    )
    assert found.options == {"prompt": "a cat", "negative_prompt": "", "height": 512}
    assert set(found.left) == {"steps", "seed", "width", "Sampler", "ENSD"}
    assert "multiple of 8" in found.left["width"]
    assert found.left["seed"].startswith("12346789098 (seed must be")
    defaults = {"width": 128, "steps": 20, "guidance_scale": 5.0, "sampler": "Euler"}
    assert GenerationRequest.from_options(found.options, defaults).height == 512


def test_comfyui_is_followed_from_the_sampler_to_words_size_and_model() -> None:
    found = read(comfyui_png())
    assert found.program == "ComfyUI"
    assert found.options == {
        "prompt": "beautiful scenery nature glass bottle",
        "negative_prompt": "text, watermark",
        "steps": 20,
        "guidance_scale": 8.0,
        "width": 512,
        "height": 768,
        "sampler": "Euler",
        "schedule": "Uniform",
    }
    assert found.model_name == "v1-5-pruned-emaonly.safetensors"
    assert set(found.left) == {"seed"}  # of 48 bits


def test_comfyuis_custom_sampler_is_put_together_from_its_parts() -> None:
    found = read(comfyui_png(FLUX))
    assert found.options == {
        "prompt": "a fox in the snow",
        "negative_prompt": "",
        "seed": 99,
        "steps": 25,
        "guidance_scale": 1.0,
        "width": 1024,
        "height": 640,
        "sampler": "DPM++ 2M",
        "schedule": "Uniform",
    }
    assert found.model_name == "flux1-dev.safetensors"
    assert found.left == {"Schedule": "simple, taken as Uniform", "Nodes": "FluxGuidance"}


def test_comfyuis_advanced_sampler_gives_the_first_of_two_passes() -> None:
    common = {"model": ["4", 0], "positive": ["6", 0], "negative": ["7", 0], "cfg": 5, "steps": 25}
    graph: dict[str, Any] = COMFYUI | {
        "20": node(
            "KSamplerAdvanced", noise_seed=8, sampler_name="dpmpp_sde", scheduler="karras",
            latent_image=["3", 0], start_at_step=20, end_at_step=25, **common,
        ),
        "3": node(
            "KSamplerAdvanced", noise_seed=7, sampler_name="euler_ancestral", scheduler="karras",
            latent_image=["5", 0], start_at_step=0, end_at_step=20, **common,
        ),
    }  # fmt: skip
    found = read(comfyui_png(dict(sorted(graph.items()))))
    assert (found.options["seed"], found.options["guidance_scale"]) == (7, 5)
    assert (found.options["sampler"], found.options["schedule"]) == ("Euler a", "Automatic")
    assert found.left == {"Schedule": "karras", "Further sampling passes": "1"}


def test_what_stands_between_comfyuis_sampler_and_its_words_is_passed_and_named() -> None:
    sampler = COMFYUI["3"]["inputs"]
    graph = COMFYUI | {
        "3": node(
            "KSampler",
            **(
                sampler
                | {"positive": ["30", 0], "negative": ["30", 1], "model": ["31", 0], "seed": ["32", 0]}
            ),
        ),
        "6": node("CLIPTextEncode", text=["33", 0], clip=["31", 1]),
        "30": node("ControlNetApplyAdvanced", positive=["6", 0], negative=["7", 0], strength=1.0),
        "31": node("LoraLoader", lora_name="ink.safetensors", model=["4", 0], clip=["4", 1]),
        "32": node("Seed (rgthree)", seed=77),
        "33": node("PrimitiveStringMultiline", value="a boat"),
    }
    found = read(comfyui_png(graph))
    assert (found.options["prompt"], found.options["negative_prompt"]) == ("a boat", "text, watermark")
    assert found.options["seed"] == 77
    assert found.model_name == "v1-5-pruned-emaonly.safetensors"
    assert found.left == {"LoRA": "ink.safetensors", "Nodes": "ControlNetApplyAdvanced, Seed (rgthree)"}


def test_comfyuis_picture_from_a_picture_says_so() -> None:
    graph = COMFYUI | {
        "3": node(
            "KSampler", **(COMFYUI["3"]["inputs"] | {"latent_image": ["40", 0], "denoise": 0.6, "seed": 1})
        ),
        "40": node("VAEEncode", pixels=["41", 0], vae=["4", 2]),
        "41": node("LoadImage", image="example.png"),
    }
    found = read(comfyui_png(graph))
    assert "width" not in found.options
    assert found.left == {"denoise": "0.6", "Nodes": "LoadImage, VAEEncode"}


@pytest.mark.parametrize("graph", [None, {}, {"1": node("SaveImage", images=["2", 0])}])
def test_comfyuis_screen_will_do_where_there_is_no_run(graph: Any) -> None:
    found = read(comfyui_png(graph, WORKFLOW))
    assert found.options == {
        "prompt": "a house",
        "negative_prompt": "blurry",
        "seed": 42,
        "steps": 30,
        "guidance_scale": 6.5,
        "width": 512,
        "height": 512,
        "sampler": "UniPC",
        "schedule": "Karras",
    }
    assert (found.model_name, found.left) == ("dream.safetensors", {})


def test_comfyuis_webp_has_its_graph_in_other_tags() -> None:
    data = with_exif("WEBP", {0x0110: f"prompt:{json.dumps(FLUX)}", 0x010F: "workflow:{}"})
    assert read(data).options["prompt"] == "a fox in the snow"


@pytest.mark.parametrize(
    "graph",
    [
        [],
        3,
        {"3": 4},
        {"3": {"class_type": "KSampler"}},
        {"3": node("KSampler", seed=1, latent_image=["3", 0], positive=["3", 0], model=["3", 0])},
        {"3": node("KSampler", seed=[["3"], 0], steps={}, latent_image=[3], positive=["9", 0], cfg=[0])},
        {"3": node("KSampler", seed=float("nan"), steps=True, latent_image=["4", 0], cfg=1e999),
         "4": node("EmptyLatentImage", width=10**300, height="x")},
        {str(i): node("Reroute", latent_image=[str(i + 1), 0], seed=[str(i + 1), 0]) for i in range(2000)},
    ],
)  # fmt: skip
def test_no_graph_breaks_the_reader(graph: Any) -> None:
    for data in (
        comfyui_png(graph),
        comfyui_png(None, graph),
        comfyui_png(None, {"nodes": graph, "links": graph}),
    ):
        found = read_settings(data)
        if found is not None:
            GenerationRequest.from_options({"width": 64, "height": 64} | found.options, {
                "prompt": "", "steps": 1, "guidance_scale": 1.0, "sampler": "Euler",
            })  # fmt: skip


def test_invokeais_json_is_read() -> None:
    found = read(png({"invokeai_metadata": json.dumps(INVOKEAI)}))
    assert found.program == "InvokeAI"
    assert found.options == {
        "prompt": "landscape",
        "negative_prompt": "low quality",
        "width": 768,
        "height": 432,
        "seed": 356120443,
        "steps": 50,
        "guidance_scale": 7.5,
        "sampler": "DPM++ 2M SDE",
        "schedule": "Karras",
        "noise": "cpu",
    }
    assert (found.model_name, found.left) == ("amixx", {})


def test_what_invokeai_does_besides_is_named() -> None:
    changes = {
        "scheduler": "euler", "rand_device": "cuda", "clip_skip": 2, "strength": 0.6, "cfg_scale": [1, 2],
        "generation_mode": "img2img", "model": {"model_name": "older"}, "loras": [{"weight": 1}],
        "steps": "9", "width": None,
    }  # fmt: skip
    found = read(png({"invokeai_metadata": json.dumps(INVOKEAI | changes)}))
    assert (found.options["sampler"], found.options["schedule"]) == ("Euler", "Uniform")
    assert (found.options["noise"], found.model_name) == ("nv", "older")
    assert {"width", "steps", "guidance_scale"}.isdisjoint(found.options)
    assert set(found.left) == {"clip_skip", "strength", "generation_mode", "loras", "steps", "guidance_scale"}


@pytest.mark.parametrize(
    "data",
    [
        png({"parameters": json.dumps(FOOOCUS), "fooocus_scheme": "fooocus"}),
        with_exif("JPEG", {0x9286: json.dumps(FOOOCUS), 0x927C: "fooocus", 0x0131: "Fooocus v2.5.5"}),
        with_exif("WEBP", {0x9286: json.dumps(FOOOCUS), 0x927C: "fooocus"}),
        png({"parameters": FOOOCUS_TEXT, "fooocus_scheme": "a1111"}),
        with_exif("JPEG", {0x9286: FOOOCUS_TEXT, 0x927C: "a1111"}),
    ],
    ids=["JSON in PNG", "JSON in JPEG", "JSON in WebP", "text in PNG", "text in JPEG"],
)
def test_both_forms_of_fooocus_are_read(data: bytes) -> None:
    found = read(data)
    assert found.program == "Fooocus"
    assert found.options == {
        "prompt": "a house\nby the sea",
        "negative_prompt": "drawing",
        "seed": 2541219580,
        "steps": 30,
        "guidance_scale": 4.0,
        "width": 1152,
        "height": 896,
        "sampler": "DPM++ 2M SDE",
        "schedule": "Karras",
    }
    assert found.model_name == "juggernautXL_v8Rundiffusion"
    assert {name.casefold() for name in found.left} >= {"sharpness", "performance", "vae"}


def test_a_text_goes_before_a_graph_and_ours_before_both() -> None:
    both = {"parameters": A1111_TEXT, "prompt": json.dumps(COMFYUI)}
    assert read(png(both)).program == "AUTOMATIC1111"
    assert read(png(both | {"latent_studio": "{"})).program == "AUTOMATIC1111"
    request = GenerationRequest.from_options(A1111_OPTIONS, {})
    ours = read(png(both | {"latent_studio": json.dumps({"request": request.to_dict()})}))
    assert (ours.program, ours.request) == ("Latent Studio", request)


def test_a_picture_without_settings_has_none(tmp_path: Path) -> None:
    plain = io.BytesIO()
    Image.new("RGB", (8, 8)).save(plain, "JPEG")
    for data in (
        png({}),
        png({"Software": "gimp"}),
        plain.getvalue(),
        b"",
        b"GIF89a",
        png({"parameters": " \n"}),
    ):
        assert read_settings(data) is None
    assert read_settings(tmp_path) is None
    assert read_settings(tmp_path / "missing.png") is None


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@given(data=st.data())
@settings(max_examples=80)
def test_no_value_of_any_program_breaks_the_reader(data: st.DataObject) -> None:
    whole = data.draw(st.sampled_from([INVOKEAI, FOOOCUS, COMFYUI["3"]["inputs"]]))
    changed = whole | {data.draw(st.sampled_from(sorted(whole))): data.draw(JSON) for _ in range(3)}
    name = "invokeai_metadata" if whole is INVOKEAI else "parameters" if whole is FOOOCUS else "prompt"
    if name == "prompt":
        changed = COMFYUI | {"3": node("KSampler", **changed)}
    found = read_settings(png({name: json.dumps(changed)}))
    assert found is None or isinstance(found.options, dict)


@pytest.mark.parametrize("depth", [400, 900, 950, 990, 5000])
def test_no_depth_breaks_the_reader(depth: int) -> None:
    deep = f"{'[' * depth}{']' * depth}"
    read_settings(png({"parameters": f'{{"base_model": "m", "styles": {deep}, "steps": {deep}}}'}))
    read_settings(png({"invokeai_metadata": f'{{"seed": {deep}, "x": {deep}}}'}))
    read_settings(png({"latent_studio": f'{{"request": {{"seed": {deep}}}}}'}))
