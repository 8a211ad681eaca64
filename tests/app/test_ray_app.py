"""Two replicas under Ray Serve on this machine: both draw, one dies, the queue fills, a reader leaves."""

import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import psutil
import pytest

from app.backend import Backend
from app.context import open_context
from app.job import JobState
from app.settings import Settings
from models.errors import StudioError
from pipelines.remote_server import RemoteServer
from pipelines.result import GenerationResult, StepEvent
from tests.app.api.fronts import engine_at
from tests.app.engines import a_request
from tests.app.queues import the_end, until
from tests.ports import quiet_port

pytestmark = pytest.mark.slow
WAIT_SECONDS = 120  # Ray starts processes that import torch
LONG = {"steps": 150, "count": 8}


def waited(what: Callable[[], object], seconds: float = WAIT_SECONDS) -> bool:
    end = time.monotonic() + seconds
    while not what():
        if time.monotonic() > end:
            return False
        time.sleep(0.2)
    return True


@pytest.fixture(scope="module")
def address(tiny_model_folder: Path) -> Iterator[str]:
    """A cluster of this machine alone, with two replicas that draw with the tiny model."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("RAY_AUTH_MODE", "disabled")  # else it writes a key into the home folder
        import ray
        from ray import serve

        from app.ray_app import Options, app

        folder = tempfile.mkdtemp(prefix="ray-", dir="/tmp")  # Ray's sockets need a short path
        port = quiet_port()
        try:
            ray.init(
                num_cpus=1,
                include_dashboard=False,
                log_to_driver=False,
                object_store_memory=100 * 2**20,
                _node_ip_address="127.0.0.1",
                _temp_dir=folder,
            )
            serve.start(http_options={"host": "127.0.0.1", "port": port})
            options = Options(
                model=tiny_model_folder, device="cpu", cpus=0.4, min_replicas=2, max_replicas=2,
                max_queued_requests=2,
            )  # fmt: skip
            serve.run(app(options))
            yield f"http://127.0.0.1:{port}"
        finally:
            serve.shutdown()
            ray.shutdown()
            shutil.rmtree(folder, ignore_errors=True)


def replicas() -> list[psutil.Process]:
    """The processes that draw, as soon as there are two."""
    found: list[psutil.Process] = []

    def two() -> bool:
        from ray import serve

        ready = serve.status().applications["default"].deployments["Studio"].replica_states.get("RUNNING", 0)
        found[:] = [
            process
            for process in psutil.Process().children(recursive=True)
            if process.is_running() and "ServeReplica" in " ".join(_words(process))
        ]
        return ready == 2 and len(found) == 2

    assert waited(two), found
    return sorted(found, key=lambda process: process.pid)


def _words(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []


def seconds_of(processes: list[psutil.Process]) -> list[float]:
    return [process.cpu_times().user for process in processes]


def test_the_orders_of_one_page_are_drawn_by_both_replicas(address: str, tmp_path: Path) -> None:
    settings = Settings(outputs=tmp_path)
    backend = Backend(RemoteServer.from_url(address), settings)
    context = open_context([], backend.open_engine, settings=settings, backend=backend)
    processes = replicas()
    before = seconds_of(processes)
    try:
        model = context.models[0].path
        jobs = []
        for seed in range(0, 100, 25):
            jobs.append(context.jobs.submit(a_request(seed=seed, **LONG), "browser:ann", model))
            if len(jobs) == 2:  # one each; only then two more, for which there is room to wait
                for job in jobs:
                    until(context.jobs, job, lambda view: view.event is not None or view.over)
        ends = [the_end(context.jobs, job) for job in jobs]
        assert [view.state for view in ends] == [JobState.DONE] * 4, [view.error for view in ends]
    finally:
        context.close()
    spent = [after - start for after, start in zip(seconds_of(processes), before, strict=True)]
    assert min(spent) > 0.2 * max(spent) > 0, spent


def test_one_that_is_killed_costs_its_picture_alone(address: str, tmp_path: Path) -> None:
    settings = Settings(outputs=tmp_path)
    backend = Backend(RemoteServer.from_url(address), settings)
    context = open_context([], backend.open_engine, settings=settings, backend=backend)
    try:
        model = context.models[0].path
        victim = replicas()[0]
        jobs = [context.jobs.submit(a_request(seed=seed, **LONG), "browser:ann", model) for seed in (1, 50)]
        for job in jobs:  # each is drawn by one of the two
            until(context.jobs, job, lambda view: view.event is not None)
        victim.kill()
        ends = [the_end(context.jobs, job) for job in jobs]
        assert sorted(view.state for view in ends) == [JobState.DONE, JobState.FAILED]
        (error,) = [view.error for view in ends if view.state is JobState.FAILED]
        assert error is not None
        assert error.startswith(("The connection to 127.0.0.1", "127.0.0.1")), error
        # The page lives, and what is asked for next is drawn.
        assert (
            the_end(context.jobs, context.jobs.submit(a_request(), "browser:ann", model)).state
            is JobState.DONE
        )
        assert victim.pid not in [process.pid for process in replicas()]
    finally:
        context.close()


def test_a_full_queue_says_so(address: str, tmp_path: Path) -> None:
    replicas()
    engine = engine_at(address, tmp_path)
    said: list[str] = []
    drawn: list[GenerationResult] = []

    def order(seed: int) -> None:
        try:
            *_, result = engine.generate(a_request(seed=seed, **LONG))
            assert isinstance(result, GenerationResult)
            drawn.append(result)
        except StudioError as error:
            said.append(str(error))

    programs = [threading.Thread(target=order, args=(seed,)) for seed in range(0, 200, 20)]
    for program in programs:
        program.start()
    for program in programs:
        program.join(WAIT_SECONDS)
    assert drawn
    assert said
    assert len(drawn) + len(said) == len(programs)
    assert all("takes no more at the moment" in words for words in said), said


def test_who_leaves_a_stream_stops_the_drawing(address: str, tmp_path: Path) -> None:
    processes = replicas()
    engine = engine_at(address, tmp_path)
    with closing(engine.generate(a_request(steps=150, count=10, width=256, height=256))) as events:
        assert any(isinstance(event, StepEvent) for event in events)

    def idle() -> bool:
        before = seconds_of(processes)
        time.sleep(1.5)
        return max(now - then for now, then in zip(seconds_of(processes), before, strict=True)) < 0.3

    assert waited(idle, 15)
