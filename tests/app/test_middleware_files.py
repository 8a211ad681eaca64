"""Bodies, uploads and files at the doors of a real Gradio server, over real sockets."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import app
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


FILE_ROUTES = ("/gradio_api/file=", "/gradio_api/file/", "/file=", "/file/", "/gradio_api/proxy=", "/static/",
               "/assets/", "/svelte/")  # fmt: skip
OUTSIDE = [
    "/etc/passwd", "{folder}/people.txt", "{folder}/cache/../people.txt", "launch.py", "{root}/launch.py",
    "{root}/pyproject.toml", "../../../../etc/passwd", "%2e%2e/%2e%2e/etc/passwd", "{folder}/cache/link.png",
    "{folder}/cache/folder/people.txt", "{folder}/CACHE/../people.txt", "{folder}/PEOPLE.TXT",
    "{folder}/cache/%2e%2e/people.txt", "{folder}/cache/%252e%252e/people.txt",
    "{folder}/cache/..%2fpeople.txt", "{folder}/cache/..%5cpeople.txt", "{folder}%2fpeople.txt",
    "%2fetc%2fpasswd", "%252fetc%252fpasswd", "//etc/passwd", "///etc/passwd", "/./etc/passwd",
    "/proc/self/environ", "/proc/self/cwd/launch.py", "/dev/zero", "C:/Windows/win.ini",
    "C:%5cWindows%5cwin.ini", "%5c%5cserver%5cshare%5cx.png", "//server/share/x.png", "%5c%5c%3f%5cC:%5cx",
    "file:///etc/passwd", "file%3a///etc/passwd", "~/.ssh/id_rsa", "/etc/passwd%00.png", "%00",
    "{folder}/people.txt%00.png", "{folder}/people.txt%20", "{folder}/people.txt.",
    "{folder}/people.txt::$DATA", "{folder}/cache", "{folder}/cache/", "{folder}", ".", "..", "",
    "http://127.0.0.1:1/x", "%ff%fe", "{folder}/cache/..;/people.txt", "a" * 5000,
]  # fmt: skip


@pytest.fixture(scope="module")
def lures(folder: Path) -> Path:
    """Links in the served folder that lead out of it."""
    cache = folder / "cache"
    (cache / "link.png").symlink_to(folder / "people.txt")
    (cache / "folder").symlink_to(folder)
    return folder


@pytest.mark.parametrize("path", OUTSIDE)
def test_no_file_of_the_machine_is_served(closed: Studio, cookie: str, lures: Path, path: str) -> None:
    path = path.format(folder=lures, root=Path(app.__path__[0]).parent)
    for route in FILE_ROUTES:
        answer = closed.ask("GET", route + path, Cookie=cookie)
        assert 400 <= answer.status < 500, (route, path, answer.status)
        assert b"scrypt" not in answer.body
        assert b"root:" not in answer.body


PIECES = [
    "..", ".", "%2e%2e", "%252e%252e", "%2E.", "/", "//", "%2f", "%252f", "%5c", "\\", "cache", "CACHE",
    "people.txt", "PEOPLE.txt", "%00", "etc", "passwd", "link.png", "folder", "~", ":", "%", "%u002e",
    ";", "%c0%ae", "%ef%bc%8f",
]  # fmt: skip


@settings(max_examples=150, suppress_health_check=list(HealthCheck))
@given(
    pieces=st.lists(st.sampled_from(PIECES), max_size=8),
    route=st.sampled_from(FILE_ROUTES),
    inside=st.booleans(),
)
def test_no_spelling_of_a_path_leads_out(
    closed: Studio, cookie: str, lures: Path, pieces: list[str], route: str, inside: bool
) -> None:
    path = "/".join([f"{lures}/cache"] * inside + pieces) if inside else "".join(pieces)
    answer = closed.ask("GET", route + path, Cookie=cookie)
    assert 400 <= answer.status < 500, (path, answer.status)
    assert b"scrypt" not in answer.body
