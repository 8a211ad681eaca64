"""AUTOMATIC1111's API of a real server, asked by a client that was written for that program."""

import base64
import io
import json
import random
import struct
import threading
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import webuiapi
from PIL import Image

from app.api import a1111
from app.security import set_password
from pipelines.png import read_png
from pipelines.remote_server import PICTURES_AT_ONCE
from tests.app.api.studio import JSON, ApiStudio, running
from tests.app.doors import BASIC, PASSWORD
from tests.app.engines import PacedEngine
from tests.corpora import picture_files

pytestmark = pytest.mark.slow

WORDS = {"prompt": "a red apple", "width": 32, "height": 32, "steps": 2, "cfg_scale": 1.0}


@pytest.fixture(scope="module")
def studio(tmp_path_factory: pytest.TempPathFactory, tiny_model_folder: Path) -> Iterator[ApiStudio]:
    """A studio that draws with the tiny model."""
    from pipelines.inputs import InputStore
    from pipelines.local_engine import LocalEngine

    outputs = tmp_path_factory.mktemp("a1111")
    inputs = InputStore(outputs / "inputs")
    with running(
        outputs, tiny_model_folder, lambda folder: LocalEngine(folder, "cpu", inputs=inputs)
    ) as started:
        yield started


@pytest.fixture
def client(studio: ApiStudio) -> webuiapi.WebUIApi:
    return webuiapi.WebUIApi(port=studio.studio.port, sampler="Euler")


def post(studio: ApiStudio, name: str, body: bytes, **headers: str) -> tuple[int, Any]:
    answer = studio.studio.ask("POST", a1111.ROOT + name, body, Content_Type=JSON, **headers)
    return answer.status, json.loads(answer.body)


def encoded(picture: Image.Image) -> str:
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()


def test_words_become_the_pictures_that_their_answer_describes(client: webuiapi.WebUIApi) -> None:
    answer = client.txt2img(
        **WORDS, seed=7, batch_size=2, n_iter=2, negative_prompt="blue", restore_faces=True
    )
    assert [picture.size for picture in answer.images] == [(32, 32)] * 4
    assert answer.info["all_seeds"] == [7, 8, 9, 10]
    assert (answer.info["sampler_name"], answer.info["steps"]) == ("Euler", 2)
    assert answer.info["all_prompts"] == ["a red apple"] * 4
    assert answer.parameters["negative_prompt"] == "blue"
    assert {"restore_faces", "eta"} <= set(answer.info["ignored"])
    for sent, infotext, seed in zip(
        answer.json["images"], answer.info["infotexts"], range(7, 11), strict=True
    ):
        png = base64.b64decode(sent)
        assert Image.open(io.BytesIO(png)).text["parameters"] == infotext  # type: ignore[attr-defined]
        inside = read_png(io.BytesIO(png))
        assert inside is not None
        assert inside.request.seed == seed
    # The same seed alone is the same picture, however many were drawn with it.
    again = client.txt2img(**WORDS, seed=9, negative_prompt="blue")
    assert again.image.tobytes() == answer.images[2].tobytes()
    assert client.png_info(answer.images[2]).info == answer.info["infotexts"][2]


def test_a_picture_becomes_another_and_outside_the_mask_stays_as_it_was(client: webuiapi.WebUIApi) -> None:
    picture = Image.new("RGB", (32, 32), (200, 30, 30))
    mask = Image.new("L", (32, 32))
    mask.paste(255, (0, 0, 16, 32))
    common = {**WORDS, "images": [picture], "mask_image": mask, "mask_blur": 0, "seed": 3, "steps": 4,
              "inpaint_full_res": False}  # fmt: skip
    answer = client.img2img(**common, inpainting_fill=1)
    right = (16, 0, 32, 32)
    assert answer.image.crop(right).tobytes() == picture.crop(right).tobytes()
    assert answer.image.tobytes() != picture.tobytes()
    left = (0, 0, 16, 32)
    inverted = client.img2img(**common, inpainting_fill=1, inpainting_mask_invert=1)
    assert inverted.image.crop(left).tobytes() == picture.crop(left).tobytes()
    assert client.img2img(**{**common, "mask_image": None}, denoising_strength=0.5).image.size == (32, 32)


def test_a_second_pass_is_as_large_as_asked(client: webuiapi.WebUIApi) -> None:
    by_scale = client.txt2img(**WORDS, enable_hr=True, hr_scale=1.5, seed=1)
    by_size = client.txt2img(**WORDS, enable_hr=True, hr_resize_x=48, seed=1)
    assert by_scale.image.size == by_size.image.size == (48, 48)
    assert by_scale.image.tobytes() == by_size.image.tobytes()


def test_pictures_are_kept_only_where_that_is_asked_for(studio: ApiStudio, client: webuiapi.WebUIApi) -> None:
    client.txt2img(**WORDS)
    assert list(studio.context.settings.outputs.glob("20*/*.png")) == []
    answer = client.txt2img(**WORDS, seed=11, save_images=True, send_images=False)
    assert answer.images == []
    kept = studio.context.library.newest("browser:anybody on this machine")
    assert [picture.request.seed for picture in kept] == [11]


def test_what_the_client_lists_is_what_it_can_order(
    client: webuiapi.WebUIApi, tiny_model_folder: Path
) -> None:
    for sampler in client.util_get_sampler_names():
        assert client.txt2img(**WORDS, sampler_name=sampler).info["sampler_name"] == sampler
    for scheduler in client.util_get_scheduler_names():
        client.txt2img(**WORDS, scheduler=scheduler)
    assert client.util_get_model_names() == [tiny_model_folder.name]
    client.util_set_model(tiny_model_folder.name)
    assert client.util_get_current_model() == tiny_model_folder.name
    client.util_wait_for_ready()
    client.refresh_checkpoints()
    assert client.get_scripts() == {"txt2img": [], "img2img": []}
    assert client.get_memory()["ram"]["free"] > 0
    for empty in (client.get_loras, client.get_sd_vae, client.get_hypernetworks, client.get_prompt_styles,
                  client.get_face_restorers, client.get_realesrgan_models):  # fmt: skip
        assert empty() == []
    assert {one["name"] for one in client.get_upscalers()} == {"None", "Lanczos"}
    assert client.get_embeddings()["loaded"] == {}
    assert "auth" not in json.dumps(client.get_cmd_flags())


def test_progress_and_interrupt_and_skip_while_it_draws(tmp_path: Path, tiny_model_folder: Path) -> None:
    gate = threading.Semaphore(0)
    engine = PacedEngine(tiny_model_folder, gate)
    with running(tmp_path, tiny_model_folder, lambda _folder: engine) as studio:
        client = webuiapi.WebUIApi(port=studio.studio.port, sampler="Euler")
        assert client.get_progress()["state"]["job_count"] == 0

        def order(count: int) -> tuple[threading.Thread, list[Any]]:
            answers: list[Any] = []
            asked = {**WORDS, "steps": 10, "n_iter": count, "seed": 1}
            thread = threading.Thread(target=lambda: answers.append(client.txt2img(**asked)), daemon=True)
            thread.start()
            return thread, answers

        other = webuiapi.WebUIApi(port=studio.studio.port)
        thread, answers = order(3)
        gate.release(12)  # the first picture, and two steps of the second
        until(lambda: engine.steps_done == 12)
        until(lambda: other.get_progress()["state"]["sampling_step"] == 2)
        assert 0.3 < other.get_progress()["progress"] < 0.5
        other.skip()
        gate.release(11)  # a step, at which the second is left, and the third
        until(lambda: answers)
        assert answers[0].info["all_seeds"] == [1, 3]

        before = engine.steps_done
        thread, answers = order(3)
        gate.release(12)
        until(lambda: engine.steps_done == before + 12)
        other.interrupt()
        gate.release(1)
        thread.join(120)
        assert answers[0].info["all_seeds"] == [1]
        assert engine.steps_done <= before + 13
        gate.release(1000)


def until(what: Any) -> None:
    import time

    for _ in range(2400):
        if what():
            return
        time.sleep(0.05)
    raise AssertionError("it did not come to that")


def a_bomb() -> str:
    """A PNG of a few hundred bytes that claims a thousand million pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 40000, 40000, 8, 2, 0, 0, 0)
    data = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(100)))
    return base64.b64encode(data + chunk(b"IEND", b"")).decode()


def text_to_image(**fields: Any) -> tuple[str, bytes]:
    return "txt2img", json.dumps(WORDS | fields).encode()


def image_to_image(**fields: Any) -> tuple[str, bytes]:
    picture = encoded(Image.new("RGB", (32, 32)))
    return "img2img", json.dumps(WORDS | {"init_images": [picture]} | fields).encode()


@pytest.mark.parametrize(
    ("ordered", "named"),
    [
        (text_to_image(width=0), "width"),
        (text_to_image(width=8191), "width"),
        (text_to_image(width=100), "width"),
        (text_to_image(height=10**500), "height"),
        (text_to_image(steps=0), "steps"),
        (text_to_image(steps=1.5), "steps"),
        (text_to_image(cfg_scale=float("nan")), "cfg_scale"),
        (text_to_image(cfg_scale=float("inf")), "cfg_scale"),
        (text_to_image(subseed_strength=2), "subseed_strength"),
        (text_to_image(seed=2**70), "seed"),
        (text_to_image(seed=2**32 - 1, batch_size=2), "seed"),
        (text_to_image(batch_size=PICTURES_AT_ONCE, n_iter=2), "n_iter"),
        (text_to_image(n_iter=10**9), "n_iter"),
        (text_to_image(prompt="apple " * 180_000), "prompt"),
        (text_to_image(prompt="\0"), "prompt"),
        (text_to_image(prompt=["apple"]), "prompt"),
        (text_to_image(styles=["no such style"]), "style"),
        (text_to_image(sampler_name="Quantum"), "sampler"),
        (text_to_image(sampler_name="Euler a", scheduler="karras"), "schedule"),
        (text_to_image(override_settings={"sd_model_checkpoint": "gone"}), "gone"),
        (text_to_image(override_settings={"sd_model_checkpoint": {}}), "sd_model_checkpoint"),
        (text_to_image(enable_hr=True, hr_scale=1e30), "hr_scale"),
        (text_to_image(enable_hr=True, hr_upscaler="R-ESRGAN 4x+"), "hr_upscaler"),
        (text_to_image(enable_hr=True, hr_resize_x=48, hr_resize_y=96), "hr_resize_y"),
        (text_to_image(enable_hr=True, denoising_strength=0), "strength"),
        (image_to_image(init_images=[]), "init_images"),
        (image_to_image(init_images=["no base64!"]), "init_images"),
        (image_to_image(init_images=["data:image/png;base64,"]), "init_images"),
        (image_to_image(init_images=[base64.b64encode(b"no picture").decode()]), "picture"),
        (image_to_image(init_images=[a_bomb()]), "pixels"),
        (image_to_image(mask=a_bomb()), "pixels"),
        (image_to_image(mask=encoded(Image.new("L", (32, 32)))), "mask"),
        (image_to_image(denoising_strength=0), "strength"),
        (image_to_image(inpainting_fill=9), "inpainting_fill"),
        (("png-info", b'{"image": "%%"}'), "image"),
        (("png-info", b"{}"), "image"),
        (("options", b'{"sd_model_checkpoint": "gone"}'), "gone"),
        (("txt2img", b"{"), "JSON"),
        (("txt2img", b"[]"), "object"),
        (("txt2img", b'{"prompt": "\\ud800"}'), ""),
        (("txt2img", b'{"x": ' + b"[" * 100_000), "JSON"),
        (("txt2img", b'{"steps": ' + b"9" * 5_000 + b"}"), ""),
    ],
)
def test_a_wrong_order_is_refused_in_a_sentence(
    studio: ApiStudio, ordered: tuple[str, bytes], named: str
) -> None:
    status, answer = post(studio, *ordered)
    assert status == 422, answer
    said = answer["detail"]
    assert named in said
    assert said.endswith(".")
    assert len(said) < 600


def test_only_json_of_some_size_is_read(studio: ApiStudio) -> None:
    answer = studio.studio.ask("POST", f"{a1111.ROOT}txt2img", b"{}", Content_Type="text/plain")
    assert answer.status == 415
    answer = studio.studio.ask("POST", f"{a1111.ROOT}txt2img", bytes(33 * 2**20), Content_Type=JSON)
    assert answer.status == 413


def test_programs_log_in_as_everybody_does(tmp_path: Path, tiny_model_folder: Path) -> None:
    people = tmp_path / "people"
    set_password(people, "ann", PASSWORD)
    engine = PacedEngine(tiny_model_folder)
    with running(tmp_path / "outputs", tiny_model_folder, lambda _folder: engine, people) as studio:
        assert studio.studio.ask("GET", f"{a1111.ROOT}progress").status == 401
        assert post_status(studio, "txt2img") == 401
        assert post_status(studio, "txt2img", Authorization=BASIC) == 200
        known = webuiapi.WebUIApi(port=studio.studio.port, username="ann", password=PASSWORD, sampler="Euler")
        known.txt2img(**WORDS, save_images=True)
        assert len(studio.context.library.newest("user:ann")) == 1
        assert studio.context.library.newest("user:bob") == []


def post_status(studio: ApiStudio, name: str, **headers: str) -> int:
    body = json.dumps(WORDS).encode()
    return studio.studio.ask("POST", a1111.ROOT + name, body, Content_Type=JSON, **headers).status


@pytest.mark.parametrize(
    "count", [20, pytest.param(None, marks=pytest.mark.exhaustive)], ids=["sampled", "whole"]
)
def test_pictures_of_every_kind_are_drawn_from_or_refused_in_a_sentence(
    studio: ApiStudio, count: int | None
) -> None:
    files = picture_files()
    if count is not None:
        seed = random.randrange(10**6)
        print(f"sampled with the seed {seed}")
        files = random.Random(seed).sample(files, count)
    drawn = 0
    for file in files:
        sent = base64.b64encode(file.read_bytes()).decode()
        for name, body in (
            ("img2img", {**WORDS, "init_images": [sent], "steps": 1}),
            ("png-info", {"image": sent}),
        ):
            status, answer = post(studio, name, json.dumps(body).encode())
            assert status == 200 or 400 <= status < 500, (file, name, answer)
            assert status == 200 or answer["detail"], (file, name)
            drawn += status == 200
    assert drawn
    assert post(studio, "txt2img", json.dumps(WORDS).encode())[0] == 200
