"""Two people on one server: what is one's is not listed, served, stopped or told of to the other."""

import json
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.security import set_password
from tests.app.api.studio import ApiStudio
from tests.app.doors import PASSWORD
from tests.app.engines import PacedEngine
from tests.app.test_limits import until
from tests.app.whole import Page, whole_studio

pytestmark = pytest.mark.slow
SECRET = "a picture that is hers alone"


@pytest.fixture(scope="module")
def gate() -> threading.Semaphore:
    return threading.Semaphore(0)


@pytest.fixture(scope="module")
def whole(
    tmp_path_factory: pytest.TempPathFactory, tiny_model_folder: Path, gate: threading.Semaphore
) -> Iterator[ApiStudio]:
    outputs = tmp_path_factory.mktemp("people")
    for user in ("ann", "bob"):
        set_password(outputs / "people.txt", user, PASSWORD)

    def open_engine(folder: Path) -> PacedEngine:
        return PacedEngine(folder, gate)

    with whole_studio(outputs, tiny_model_folder, open_engine, outputs / "people.txt") as studio:
        yield studio
        gate.release(10_000)


def page_of(whole: ApiStudio, user: str) -> Page:
    # The same browser: the secret that it keeps gives nobody another person's pictures.
    return Page(whole.studio, "shared", Authorization=f"Bearer {user}:{PASSWORD}")


def test_a_persons_pictures_and_jobs_are_theirs(whole: ApiStudio, gate: threading.Semaphore) -> None:
    ann, bob = page_of(whole, "ann"), page_of(whole, "bob")
    jobs, library = whole.context.jobs, whole.context.library
    assert ann.press("generate", prompt=SECRET, steps=2, size="32x32").succeeded
    (job,) = jobs.active("user:ann")
    assert SECRET not in json.dumps(bob.press("generate", prompt="his own", steps=1).messages)
    bob.press("stop")
    bob.press("skip")
    assert [one.id for one in jobs.active("user:ann")] == [job.id]
    assert not jobs.active("user:bob")
    assert jobs.find(job.id, "user:bob") is None
    assert not jobs.cancel(job.id, "user:bob")
    assert not jobs.skip(job.id, "user:bob")
    assert not jobs.move(job.id, "user:bob", -1)
    gate.release(2)
    until(lambda: library.newest("user:ann"))
    (picture,) = library.newest("user:ann")
    assert picture.request.prompt == SECRET
    assert library.newest("user:bob") == []
    assert library.find(picture.id, "user:bob") is None
    for word in ("api:", "api:ann", "browser:", "browser:shared", "", "user:", "user:ANN"):
        assert library.find(picture.id, word) is None, word

    # By its path in the outputs folder it is nobody's; Gradio serves what a page showed, under a random name.
    for user in (ann, bob):
        for route in ("/gradio_api/file=", "/file=", "/gradio_api/file/"):
            assert user.ask("GET", f"{route}{picture.path}").status in (403, 404)
            assert user.ask("GET", f"{route}{whole.context.settings.database}").status in (403, 404)
            assert user.ask("GET", f"{route}{whole.context.settings.outputs}/people.txt").status in (403, 404)
            assert user.ask("GET", f"{route}{whole.context.settings.outputs}/cache").status in (403, 404)


def test_an_upload_lies_where_nobody_can_guess_it(whole: ApiStudio) -> None:
    from tests.app.test_middleware_files import upload

    sent = {"Authorization": f"Bearer ann:{PASSWORD}"}
    paths = [
        json.loads(upload(whole.studio, "same.png", words, **sent).body)[0] for words in (b"one", b"two")
    ]
    folders = {Path(path).parent.name for path in paths}
    assert len(folders) == 2
    assert all(len(name) >= 32 for name in folders)


def test_one_persons_wrong_order_and_failure_leave_the_others_alone(
    whole: ApiStudio, gate: threading.Semaphore
) -> None:
    ann, bob = ({"Authorization": f"Bearer {user}:{PASSWORD}"} for user in ("ann", "bob"))
    gate.release(3)
    assert whole.order(ann, prompt="fail", steps=1)[0] == 500
    assert whole.order(ann, steps=10**9)[0] == 400
    assert (
        whole.studio.ask(
            "POST", "/v1/images/generations", b"\xff" * 1000, Content_Type="application/json", **ann
        ).status
        == 400
    )
    assert whole.order(bob, steps=1)[0] == 200
