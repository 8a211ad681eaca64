"""OpenAI's images API of a real server: what it draws, streams, refuses and leaves behind."""

import base64
import io
import json
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from app.api import openai
from app.api.drawing import OWNER
from app.security import set_password
from pipelines.png import read_png
from pipelines.request import GenerationRequest
from pipelines.result import StepEvent
from tests.app.api.studio import ApiStudio, running
from tests.app.doors import BASIC, PASSWORD
from tests.app.engines import PacedEngine

pytestmark = pytest.mark.slow


def steps_of(events: list[dict[str, Any]]) -> list[int]:
    return [e["latent_studio"]["step"] for e in events if e["type"] == "image_generation.partial_image"]


def picture_of(answer: dict[str, Any]) -> bytes:
    return base64.b64decode(answer["b64_json"], validate=True)


def until(what: Any) -> None:
    for _ in range(2400):
        if what():
            return
        time.sleep(0.05)
    raise AssertionError("it did not come to that")


@pytest.fixture(scope="module")
def drawing(tmp_path_factory: pytest.TempPathFactory, tiny_model_folder: Path) -> Iterator[ApiStudio]:
    """A studio that draws with the tiny model."""
    from pipelines.local_engine import LocalEngine

    outputs = tmp_path_factory.mktemp("drawing")
    with running(outputs, tiny_model_folder, lambda folder: LocalEngine(folder, "cpu")) as studio:
        yield studio


class Paced:
    """A studio whose one engine draws a step for each release of the gate."""

    def __init__(self, outputs: Path, model: Path, **limits: Any) -> None:
        self.gate = threading.Semaphore(0)
        self.engine = PacedEngine(model, self.gate)
        self.opened = running(outputs, model, lambda _folder: self.engine, **limits)

    @property
    def orders(self) -> int:
        return len(self.api.context.jobs.active(OWNER, looks=True))

    @property
    def waiting(self) -> int:
        """How many orders nothing is drawn of yet."""
        return len(self.api.context.jobs._queue)

    @property
    def told_to_stop(self) -> bool:
        """Whether what is drawn will be left at its next step."""
        jobs = self.api.context.jobs
        return all(jobs.view(job).stopping for job in jobs.active(OWNER, looks=True))

    def __enter__(self) -> "Paced":
        self.api = self.opened.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self.gate.release(10_000)
        self.opened.__exit__(*error)


def test_what_is_ordered_is_what_the_engine_draws_with_its_settings_inside(
    drawing: ApiStudio, tiny_model_folder: Path
) -> None:
    from pipelines.local_engine import LocalEngine

    status, answer = drawing.order(n=2, size="32x40", seed=7, steps=3, negative_prompt="blue", user="ann")
    assert status == 200, answer
    assert (answer["size"], answer["output_format"]) == ("32x40", "png")
    engine = LocalEngine(tiny_model_folder, "cpu")
    request = GenerationRequest.from_options(
        {"prompt": "a red apple", "negative_prompt": "blue", "width": 32, "height": 40, "seed": 7, "steps": 3,
         "count": 2},
        engine.model.defaults,
    )  # fmt: skip
    *_, direct = engine.generate(request)
    assert not isinstance(direct, StepEvent)
    for index, one in enumerate(answer["data"]):
        png = picture_of(one)
        assert Image.open(io.BytesIO(png)).tobytes() == direct.images[index].tobytes()
        inside = read_png(io.BytesIO(png))
        assert inside is not None
        assert inside.request == request.for_image(index)
        facts = one["latent_studio"]
        assert (facts["seed"], facts["engine"], facts["model_id"]) == (
            7 + index,
            engine.name,
            direct.model_id,
        )
        assert facts["seconds"] > 0
    # It is nobody's history, and nothing of it is remembered.
    assert list(drawing.context.settings.outputs.rglob("*.png")) == []


def test_the_stream_tells_each_step_in_order_then_the_picture(drawing: ApiStudio) -> None:
    events = list(drawing.stream(seed=1, steps=40))
    *partial, last = events
    assert last["type"] == "image_generation.completed"
    assert steps_of(events) == sorted(set(steps_of(events)))
    assert [e["partial_image_index"] for e in partial] == list(range(len(partial)))
    for event in partial:
        Image.open(io.BytesIO(picture_of(event))).verify()
    assert read_png(io.BytesIO(picture_of(last))) is not None
    assert [e["type"] for e in drawing.stream(seed=1, steps=40, partial_images=0)] == [last["type"]]


def test_hanging_up_ends_the_drawing_within_a_step(tmp_path: Path, tiny_model_folder: Path) -> None:
    with Paced(tmp_path, tiny_model_folder) as paced:
        request = paced_request()
        events = paced.api.stream(latent_studio={"request": request})
        paced.gate.release(2)
        assert next(events)["latent_studio"]["step"] >= 1
        until(lambda: paced.engine.steps_done == 2)
        events.close()  # type: ignore[attr-defined]
        until(lambda: paced.told_to_stop)
        paced.gate.release(20)
        until(lambda: paced.engine.closed_early == 1)
        assert paced.engine.steps_done == 3

        # Whoever waits for the whole answer, too, ends what they ordered by leaving.
        before = paced.engine.steps_done
        while paced.gate.acquire(blocking=False):
            pass
        paced.gate.release(1)
        hang_up_on(paced.api, request, lambda: paced.engine.steps_done == before + 1)
        until(lambda: paced.told_to_stop)
        paced.gate.release(20)
        until(lambda: paced.engine.closed_early == 2)
        assert paced.engine.steps_done == before + 2


def paced_request(**changed: Any) -> dict[str, Any]:
    values = {"prompt": "a red apple", "width": 32, "height": 32, "steps": 10, "guidance_scale": 1.0,
              "sampler": "Euler", "seed": 7}  # fmt: skip
    return values | changed


def hang_up_on(api: ApiStudio, request: dict[str, Any], when: Callable[[], bool]) -> None:
    """Order a picture, and leave when it has come so far."""
    import http.client

    connection = http.client.HTTPConnection("127.0.0.1", api.studio.port)
    body = json.dumps({"latent_studio": {"request": request}})
    connection.request("POST", openai.GENERATIONS, body, {"Content-Type": "application/json"})
    until(when)
    assert connection.sock is not None
    connection.sock.close()


def test_a_full_queue_says_so_and_goes_on(tmp_path: Path, tiny_model_folder: Path) -> None:
    with Paced(tmp_path, tiny_model_folder, queued_jobs_per_owner=1) as paced:
        answers: list[tuple[int, dict[str, Any]]] = []

        def order() -> None:
            answers.append(paced.api.order(steps=2))

        programs = [threading.Thread(target=order) for _ in range(3)]
        for number, program in enumerate(programs[:2]):
            program.start()
            # One is drawn before the next comes, which finds room to wait.
            until(lambda number=number: (paced.orders, paced.waiting) == (number + 1, number))
        programs[2].start()
        until(lambda: answers)
        status, refusal = answers[0]
        assert (status, refusal["error"]["type"]) == (429, "rate_limit_error")
        assert "queue is full" in refusal["error"]["message"]
        paced.gate.release(4)
        for program in programs:
            program.join(60)
        assert [status for status, _ in answers[1:]] == [200, 200]


def test_what_fails_is_an_error_in_words_and_the_next_order_is_drawn(
    tmp_path: Path, tiny_model_folder: Path
) -> None:
    with Paced(tmp_path, tiny_model_folder) as paced:
        paced.gate.release(100)
        status, answer = paced.api.order(prompt="fail", steps=2)
        assert (status, answer["error"]["type"]) == (500, "server_error")
        assert "numbers exploded" in answer["error"]["message"]
        (event,) = paced.api.stream(prompt="fail", steps=2)
        assert "numbers exploded" in event["error"]["message"]
        status, answer = paced.api.order(size="1032x32", steps=2)  # what the engine itself refuses
        assert (status, answer["error"]["type"]) == (400, "invalid_request_error")
        assert answer["error"]["message"] == "No picture is wider than 1024 here."
        assert paced.api.order(steps=2)[0] == 200


NAMED = "0" * 64
WRONG = {
    "no prompt": ({"prompt": None}, "prompt"),
    "a prompt that is a number": ({"prompt": 7}, "prompt"),
    "no size": ({"size": "large"}, "size"),
    "a huge size": ({"size": "99999x99999"}, "width"),
    "an odd size": ({"size": "33x32"}, "multiple"),
    "eleven pictures": ({"n": 11}, "n must be from 1 to 10"),
    "half a picture": ({"n": 0.5}, "whole number"),
    "true pictures": ({"n": True}, "whole number"),
    "a link": ({"response_format": "url"}, "b64_json"),
    "a JPEG": ({"output_format": "jpeg"}, "png"),
    "endless steps": ({"steps": 10**9}, "steps"),
    "a seed of 5000 digits": ({"seed": 10**4000}, "seed"),
    "NaN": ({"guidance_scale": float("nan")}, "guidance_scale"),
    "half a surrogate pair": ({"sampler": "\ud800"}, "sampler"),
    "an unknown field": ({"\ud800": 1}, "Unknown field"),
    "a stream of words": ({"stream": "yes"}, "stream"),
    "too many previews": ({"partial_images": 1000}, "partial_images"),
    "another program's request": ({"latent_studio": {"request": {"prompt": "a"}}}, "lacks"),
    "no request": ({"latent_studio": [1]}, "latent_studio"),
    "eleven of ours": ({"latent_studio": {"request": paced_request(count=11)}}, "count"),
    "a picture that is not there": (
        {"latent_studio": {"request": paced_request(image={"picture": NAMED})}},
        "did not come",
    ),
    "a picture of another name": (
        {"latent_studio": {"request": paced_request(image={"picture": NAMED}), "pictures": {NAMED: "AA=="}}},
        "not those of its name",
    ),
}  # fmt: skip


@pytest.mark.parametrize("wrong", WRONG)
def test_a_wrong_order_is_refused_in_a_sentence(drawing: ApiStudio, wrong: str) -> None:
    fields, word = WRONG[wrong]
    status, answer = drawing.order(**fields)
    assert status == 400, answer
    assert answer["error"]["type"] == "invalid_request_error"
    assert word in answer["error"]["message"]
    assert answer["error"]["message"].endswith(".")


@pytest.mark.parametrize("body", [b"", b"{", b"[1]", b"\xff", b"[" * 100_000, b'{"n": 1e999}', b"7" * 5000])
def test_a_body_that_is_no_order_is_refused(drawing: ApiStudio, body: bytes) -> None:
    answer = drawing.studio.ask("POST", openai.GENERATIONS, body, Content_Type="application/json")
    assert answer.status == 400
    assert json.loads(answer.body)["error"]["message"].endswith(".")


def test_only_json_is_read_since_a_page_elsewhere_can_send_the_rest_unasked(drawing: ApiStudio) -> None:
    for kind in ("text/plain", "application/x-www-form-urlencoded", ""):
        status, answer = drawing.order({"Content_Type": kind})
        assert status == 415
        assert "Content-Type" in answer["error"]["message"]


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(), max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=3),
    max_leaves=6,
)
FIELDS = [
    "prompt", "model", "n", "size", "response_format", "stream", "partial_images", "latent_studio", "seed",
    "steps", "guidance_scale", "sampler", "schedule", "styles", "second_pass", "noise", "tiling", "instant",
    "variation_strength", "variation_seed", "guidance_start", "batch_size", "user",
]  # fmt: skip
ORDERS = st.dictionaries(st.sampled_from(FIELDS) | st.text(max_size=8), JSON_VALUES, max_size=6)


@settings(max_examples=60, suppress_health_check=list(HealthCheck))
@given(order=ORDERS, whole=st.booleans())
def test_no_body_makes_the_server_fail(refusing: ApiStudio, order: dict[str, Any], whole: bool) -> None:
    body = json.dumps({"prompt": "a", **order} if whole else order).encode()
    answer = refusing.studio.ask("POST", openai.GENERATIONS, body, Content_Type="application/json")
    assert answer.status < 500, (order, answer)
    if answer.status != 200:
        assert json.loads(answer.body)["error"]["message"]


@pytest.fixture(scope="module")
def refusing(tmp_path_factory: pytest.TempPathFactory, tiny_model_folder: Path) -> Iterator[ApiStudio]:
    """A studio that draws at no time at all."""
    outputs = tmp_path_factory.mktemp("refusing")
    with running(outputs, tiny_model_folder, PacedEngine) as studio:
        yield studio


def test_the_models_are_listed_with_how_they_draw_best(drawing: ApiStudio, tiny_model_folder: Path) -> None:
    answer = drawing.studio.ask("GET", openai.MODELS)
    (model,) = json.loads(answer.body)["data"]
    assert (model["id"], model["object"]) == (tiny_model_folder.name, "model")
    assert model["latent_studio"]["defaults"]["steps"] == 4
    assert drawing.order(model=model["id"], seed=1)[0] == 200
    status, answer = drawing.order(model="dall-e-3")
    assert (status, answer["error"]["code"]) == (404, "model_not_found")
    assert model["id"] in answer["error"]["message"]


def test_programs_log_in_as_everybody_does(tmp_path: Path, tiny_model_folder: Path) -> None:
    people = tmp_path / "people.txt"
    set_password(people, "ann", PASSWORD)
    with running(tmp_path / "out", tiny_model_folder, PacedEngine, people) as closed:
        for method, path in (("GET", openai.MODELS), ("POST", openai.GENERATIONS)):
            assert closed.studio.ask(method, path, Content_Type="application/json").status == 401
        assert closed.order({"Authorization": BASIC}, steps=2)[0] == 200
        assert closed.order({"Authorization": f"Bearer ann:{PASSWORD}"}, steps=2)[0] == 200
        body = json.dumps({"prompt": "a"}).encode()
        evil = {"Content_Type": "application/json", "Authorization": BASIC, "Origin": "https://evil.example"}
        assert closed.studio.ask("POST", openai.GENERATIONS, body, **evil).status == 403
        large = b"x" * (33 * 2**20)
        answer = closed.studio.ask(
            "POST", openai.GENERATIONS, large, Content_Type="application/json", Authorization=BASIC
        )
        assert answer.status == 413
