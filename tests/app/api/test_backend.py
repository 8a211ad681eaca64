"""A page whose pictures are drawn by another server: two real studios."""

import math
import socket
import threading
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import gradio as gr
import pytest
from PIL import Image

from app import text
from app.backend import Backend
from app.job import JobState
from app.model_view import model_cards
from app.security import set_password
from app.stage import live_stage
from app.tabs.generate import GenerateTab
from app.tabs.looks import local
from models.errors import ModelError, RequestError, StudioError
from pipelines.inputs import InputStore, read_picture
from pipelines.png import read_png
from pipelines.prompt.expand import PromptFiles
from pipelines.remote_server import RemoteServer
from pipelines.request import GenerationRequest
from pipelines.result import GenerationResult, StepEvent
from tests.app.api.fronts import ANN, engine_at, front
from tests.app.api.studio import ApiStudio, running
from tests.app.api.test_openai import Paced
from tests.app.api.test_openai import until as comes_to
from tests.app.doors import PASSWORD
from tests.app.engines import PacedEngine, a_request, step_by_step
from tests.app.queues import the_end, until

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def back(tmp_path_factory: pytest.TempPathFactory, tiny_model_folder: Path) -> Iterator[ApiStudio]:
    """A studio that draws with the tiny model, and has the pictures that it is sent."""
    from pipelines.local_engine import LocalEngine

    outputs = tmp_path_factory.mktemp("back")

    def open_engine(folder: Path) -> LocalEngine:
        return LocalEngine(folder, "cpu", files=PromptFiles(), inputs=InputStore(outputs / "inputs"))

    with running(outputs, tiny_model_folder, open_engine) as studio:
        yield studio


def drawn_here(model: Path, outputs: Path, request: GenerationRequest) -> GenerationResult:
    from pipelines.local_engine import LocalEngine

    engine = LocalEngine(model, "cpu", files=PromptFiles(outputs), inputs=InputStore(outputs / "inputs"))
    *_, result = engine.generate(request)
    assert isinstance(result, GenerationResult)
    return result


def test_another_studio_draws_the_pictures_that_this_one_would(
    back: ApiStudio, tiny_model_folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "wildcards").mkdir()
    (tmp_path / "wildcards" / "thing.txt").write_text("apple\ndog\ncat\n")
    (tmp_path / "styles.csv").write_text('name,prompt,negative_prompt\nplain,"{prompt}, blue style",red\n')
    picture = InputStore(tmp_path / "inputs").add(read_picture(Image.new("RGB", (48, 40), (200, 30, 30))))
    requests = [
        a_request(count=3),
        a_request("a {red|green} __thing__", count=3, styles=["plain"]),  # words of this machine alone
        a_request(image={"picture": picture, "strength": 0.5}),
        a_request(second_pass={"scale": 2.0}, variation_strength=0.3, variation_seed=5, count=2),
    ]
    with front(back.url + "/v1/", tmp_path) as (context, model):
        card = context.models[0]
        assert (card.name, card.defaults.steps, card.elsewhere) == (
            tiny_model_folder.name, 4, back.url.removeprefix("http://"),
        )  # fmt: skip
        for request in requests:
            job = context.jobs.submit(request, ANN, model)
            view = the_end(context.jobs, job)
            assert view.state is JobState.DONE, view.error
            here = drawn_here(tiny_model_folder, tmp_path, request)
            for path, image, picture_request in zip(view.paths, here.images, here.pictures, strict=True):
                with Image.open(path) as saved:
                    assert saved.tobytes() == image.tobytes()
                inside = read_png(path)
                assert inside is not None
                assert inside.request == picture_request
                assert (inside.model_name, inside.model_id) == (here.model_name, here.model_id)


def test_a_picture_that_guides_is_sent_along_and_the_net_is_the_other_studios(
    back: ApiStudio, tmp_path: Path
) -> None:
    picture = InputStore(tmp_path / "inputs").add(read_picture(Image.new("RGB", (32, 32))))
    request = a_request(controls=[{"controlnet": "lines", "picture": picture}])
    with pytest.raises(RequestError, match='There is no ControlNet "lines"'):  # said over there
        list(engine_at(back.url, tmp_path).generate(request))


def test_the_result_names_engine_and_server(back: ApiStudio, tmp_path: Path) -> None:
    *_, result = engine_at(back.url, tmp_path).generate(a_request())
    assert isinstance(result, GenerationResult)
    assert result.engine.startswith("torch")
    assert result.engine.endswith(f" at 127.0.0.1:{back.studio.port}")


def test_what_the_other_server_notes_of_its_engine_stands_on_the_result(
    tmp_path: Path, tiny_model_folder: Path
) -> None:
    note = "Drawn on torch: seamless pictures need other convolutions."

    class Noting(PacedEngine):
        def generate(self, request: GenerationRequest) -> Iterator[StepEvent | GenerationResult]:
            for event in super().generate(request):
                yield replace(event, note=note) if isinstance(event, GenerationResult) else event

    with running(tmp_path / "back", tiny_model_folder, Noting) as studio:
        *_, result = engine_at(studio.url, tmp_path / "front").generate(a_request())
        assert isinstance(result, GenerationResult)
        assert result.note == note


def test_each_step_is_seen_and_stop_ends_both_within_a_step(
    tmp_path: Path, tiny_model_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.api.openai.SIGN_OF_LIFE_SECONDS", math.inf)
    with (
        Paced(tmp_path / "back", tiny_model_folder) as paced,
        front(paced.api.url, tmp_path / "front") as (context, model),
    ):
        job = context.jobs.submit(a_request(steps=10), ANN, model)
        waiting = until(context.jobs, job, lambda view: view.engine is not None)
        assert text.WAITING_THERE.format(server=f"127.0.0.1:{paced.api.studio.port}") in live_stage(
            waiting, {}, 0
        )
        for step in (1, 2):
            paced.gate.release()
            until(
                context.jobs, job, lambda view, step=step: view.event is not None and view.event.step == step
            )
        # Nothing moves over there, nor is anything said, and Stop is heard all the same.
        context.jobs.cancel(job.id, ANN)
        assert the_end(context.jobs, job).state is JobState.CANCELLED
        assert paced.engine.steps_done == 2
        comes_to(lambda: paced.told_to_stop)
        paced.gate.release(8)
        comes_to(lambda: paced.engine.closed_early == 1)
        assert paced.engine.steps_done == 3


def test_every_step_that_waits_to_be_seen_comes_in_order_with_its_previews(
    tmp_path: Path, tiny_model_folder: Path, gate: threading.Semaphore
) -> None:
    steps = []
    with running(tmp_path / "back", tiny_model_folder, step_by_step(gate)) as studio:
        engine = engine_at(studio.url, tmp_path / "front")
        with closing(engine.generate(a_request(steps=4, count=2))) as stream:
            gate.release()
            for event in stream:
                if isinstance(event, StepEvent):
                    steps.append(event)
                    gate.release()
    assert isinstance(event, GenerationResult)
    assert [step.step for step in steps] == [1, 2, 3, 4]
    for step in steps:
        assert (step.total, step.images, len(step.previews)) == (4, 2, 2)
        assert step.denoised is None


@pytest.mark.parametrize(
    ("options", "at_once"), [({}, 4), ({"jobs_at_once": 2}, 2), ({"jobs_at_once": 5}, 5)], ids=str
)
def test_several_jobs_are_drawn_at_once_by_several_engines_there(
    options: dict[str, int], at_once: int, tmp_path: Path, tiny_model_folder: Path
) -> None:
    with (
        Paced(tmp_path / "back", tiny_model_folder) as paced,
        front(paced.api.url, tmp_path / "front", **options) as (context, model),
    ):
        jobs = [context.jobs.submit(a_request(steps=1, seed=seed), ANN, model) for seed in range(6)]
        comes_to(lambda: paced.orders == at_once)
        waiting = [context.jobs.view(job) for job in jobs[at_once:]]
        assert [view.state for view in waiting] == [JobState.QUEUED] * (6 - at_once)
        assert [view.position for view in waiting] == list(range(at_once, 6))
        paced.gate.release(6)
        assert [the_end(context.jobs, job).state for job in jobs] == [JobState.DONE] * 6


def listens(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


def test_a_server_that_is_not_there_is_told_of_and_the_page_lives(
    tmp_path: Path, tiny_model_folder: Path
) -> None:
    with (
        Paced(tmp_path / "back", tiny_model_folder) as paced,
        front(paced.api.url, tmp_path) as (context, model),
    ):
        paced.gate.release(100)
        assert the_end(context.jobs, context.jobs.submit(a_request(), ANN, model)).state is JobState.DONE
        paced.api.studio.demo.close(verbose=False)
        comes_to(lambda: not listens(paced.api.studio.port))
        view = the_end(context.jobs, context.jobs.submit(a_request(), ANN, model))
        assert view.state is JobState.FAILED
        assert "is it running?" in (view.error or "")
        assert context.jobs.view(context.jobs.submit(a_request(), ANN, model)).state is not JobState.DONE
    with pytest.raises(StudioError, match="is it running"):
        RemoteServer.from_url(paced.api.url).models()


@pytest.mark.parametrize("url", ["", "studio:7860", "ftp://studio", "http://", "http://studio:port", "http://[::1",
                                 "http://studio/?x=1"])  # fmt: skip
def test_what_is_no_address_is_refused_in_a_sentence(url: str) -> None:
    with pytest.raises(RequestError, match="--backend"):
        RemoteServer.from_url(url)


def test_the_address_carries_who_asks_and_no_message_shows_it(
    tmp_path: Path, tiny_model_folder: Path
) -> None:
    people = tmp_path / "people.txt"
    set_password(people, "ann", PASSWORD)
    with running(tmp_path / "out", tiny_model_folder, PacedEngine, people) as closed:
        known = closed.url.replace("//", "//ann:correct%20horse@")
        server = RemoteServer.from_url(known)
        assert [one["id"] for one in server.models()] == [tiny_model_folder.name]
        assert "horse" not in f"{server} {server.url} {server.name}"
        *_, result = engine_at(known, tmp_path).generate(a_request())
        assert isinstance(result, GenerationResult)
        with pytest.raises(StudioError, match="NAME:PASSWORD@"):
            RemoteServer.from_url(closed.url.replace("//", "//ann:wrong@")).models()


def test_what_needs_the_model_here_says_so(back: ApiStudio, tmp_path: Path) -> None:
    with front(back.url, tmp_path) as (context, model):
        with pytest.raises(RequestError, match="on this machine"):
            local(engine_at(back.url, tmp_path))
        backend = Backend(RemoteServer.from_url(back.url), context.settings)
        with pytest.raises(ModelError, match="without --backend"):
            backend.open_engine(tmp_path)
        cards = model_cards(context.models.listed, {model: "tiny"}, str(model), may_change=True)
        assert f"127.0.0.1:{back.studio.port}" in cards
        assert str(tmp_path) not in cards.replace(f"use:{model}", "")
        with gr.Blocks(analytics_enabled=False):
            tab = GenerateTab(context)
        assert tab.measures(str(model)) == ""
        assert tab.form.words.count_tokens(str(model), "a cat", [], 1, 4) == ""
        context.models.look()
        assert [one.trouble for one in context.models.listed] == [""]
