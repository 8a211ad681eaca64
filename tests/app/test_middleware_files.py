"""Bodies, uploads and files at the doors of a real Gradio server, over real sockets."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from app import server
from app.limits import MAX_BODY_BYTES, MAX_FILE_BYTES
from app.middleware import FILE_POLICY
from tests.app.doors import Answer, Studio

FILE_HEAD = (
    b'--b\r\nContent-Disposition: form-data; name="files"; filename="%s"\r\n'
    b"Content-Type: application/octet-stream\r\n\r\n"
)


def files_without_end(size_mib: int) -> Iterator[bytes]:
    """Files of 8 MiB each, one after the other, of which none is too large alone."""
    for number in range(0, size_mib, 8):
        yield FILE_HEAD % f"{number}.png".encode()
        yield from [bytes(2**20)] * 8
        yield b"\r\n"


@pytest.mark.parametrize("path", ["/gradio_api/upload", "/gradio_api/queue/join"])
def test_a_body_over_the_limit_is_refused_announced_or_not(closed: Studio, cookie: str, path: str) -> None:
    kind = "multipart/form-data; boundary=b" if path.endswith("upload") else "application/json"
    announced = closed.ask("POST", path, b"x", Content_Length=str(MAX_BODY_BYTES + 1), Cookie=cookie)
    stream = files_without_end(2 * MAX_BODY_BYTES // 2**20)
    streamed = closed.ask("POST", path, stream, Cookie=cookie, Content_Type=kind)
    for answer in (announced, streamed):
        assert (answer.status, answer.body) == (413, b"The request is larger than 32 MiB.")


def test_a_strangers_body_is_not_read_at_all(closed: Studio) -> None:
    assert closed.ask("POST", "/gradio_api/upload", b"", Content_Length=str(2**40)).status == 401
    assert closed.ask("POST", "/login", files_without_end(8)).status == 400


def upload(studio: Studio, name: str, content: bytes, **headers: str) -> Answer:
    body = FILE_HEAD % name.encode() + content + b"\r\n--b--\r\n"
    return studio.ask(
        "POST", "/gradio_api/upload", body, Content_Type="multipart/form-data; boundary=b", **headers
    )


def test_an_uploaded_page_or_drawing_cannot_act_as_ours(closed: Studio, cookie: str) -> None:
    for name in ("page.html", "drawing.svg", "picture.png", "script.js"):
        stored = upload(
            closed, name, b"<svg xmlns='http://www.w3.org/2000/svg' onload='alert(1)'/>", Cookie=cookie
        )
        assert stored.status == 200
        path = json.loads(stored.body)[0]
        assert closed.ask("GET", f"/gradio_api/file={path}").status == 401
        served = closed.ask("GET", f"/gradio_api/file={path}", Cookie=cookie)
        assert served.status == 200
        assert served.headers["content-security-policy"] == FILE_POLICY
        assert served.headers["x-content-type-options"] == "nosniff"


def test_a_file_over_the_limit_is_refused(closed: Studio, cookie: str) -> None:
    answer = upload(closed, "big.png", bytes(MAX_FILE_BYTES + 1), Cookie=cookie)
    assert answer.status == 413


@pytest.mark.parametrize(
    "path",
    ["/etc/passwd", "{folder}/people.txt", "{folder}/cache/../people.txt", "launch.py", "{root}/launch.py",
     "{root}/pyproject.toml", "../../../../etc/passwd", "%2e%2e/%2e%2e/etc/passwd"],
)  # fmt: skip
def test_no_file_of_the_machine_is_served(closed: Studio, cookie: str, folder: Path, path: str) -> None:
    path = path.format(folder=folder, root=Path(server.__file__).parents[1])
    for route in (
        "/gradio_api/file=",
        "/gradio_api/file/",
        "/file=",
        "/gradio_api/proxy=",
        "/static/",
        "/assets/",
    ):
        answer = closed.ask("GET", route + path, Cookie=cookie)
        assert answer.status in (400, 403, 404), (route, path, answer.status)
