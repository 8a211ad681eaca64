"""Starting and stopping the page: what is refused and how fast, and real processes from the command line."""

import argparse
import errno
import os
import signal
import socket
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from app import gradio_server, model_list, server
from app.hosts import Hosts
from app.security import set_password
from models.errors import ModelError, RequestError, StudioError
from tests.ports import quiet_port

ROOT = Path(__file__).resolve().parents[2]
PASSWORD = "correct horse"
START_SECONDS = 240  # a machine that trains is slow
HELPING_COMMAND = "python launch.py auth add NAME --auth-file"


def options(**changed: object) -> argparse.Namespace:
    """The options of `ui` as launch.py gives them."""
    given = {
        "host": "127.0.0.1", "port": 0, "share": False, "auth_file": None, "allow_host": [],
        "no_browser": True, "model": ROOT / "checkpoints" / "starter", "device": "cpu", "engine": "auto",
        "backend": None,
    }  # fmt: skip
    return argparse.Namespace(**(given | changed))


@pytest.fixture
def auth_file(tmp_path: Path) -> Path:
    set_password(tmp_path / "people.txt", "ann", PASSWORD)
    return tmp_path / "people.txt"


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.2", "localhost", "LOCALHOST", "::1", "[::1]"])
def test_this_machine_alone_needs_no_password(host: str) -> None:
    server.check(options(host=host))


@pytest.mark.parametrize(
    "opening",
    [
        {"share": True},
        {"host": "0.0.0.0"},
        {"host": "::"},
        {"host": "192.168.1.5"},
        {"host": "studio.example"},
    ],
)
def test_opening_the_page_to_others_needs_a_person_in_the_password_file(
    opening: dict[str, object], auth_file: Path, tmp_path: Path
) -> None:
    empty = tmp_path / "empty file.txt"
    empty.write_text("# nobody yet\n")
    for without in (None, empty, tmp_path / "missing.txt"):
        with pytest.raises(RequestError) as refusal:
            server.check(options(auth_file=without, **opening))
        assert refusal.value.exit_code == 2
        assert HELPING_COMMAND in str(refusal.value)
        assert str(refusal.value).count("`") == 2  # one command, ready to be copied
    server.check(options(auth_file=auth_file, **opening))


def test_a_password_file_that_was_asked_for_has_to_hold_somebody_here_too(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="nobody"):
        server.check(options(auth_file=tmp_path / "missing.txt"))


@pytest.mark.parametrize("outputs", ["file", "file/below"])
def test_an_outputs_folder_that_cannot_be_written_to_is_refused(
    outputs: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("LATENT_STUDIO_OUTPUTS", str(tmp_path / outputs))
    with pytest.raises(RequestError, match=r"pictures cannot go to .* is a file") as refusal:
        server.check(options())
    assert refusal.value.exit_code == 2
    with pytest.raises(RequestError, match="pictures cannot go to"):  # what a look at it did not tell
        gradio_server.prepare_environment(tmp_path / outputs)


@pytest.mark.parametrize("host", ["", " ", "http://localhost", "a b", "localhost/", "-"])
def test_a_host_that_is_no_address_is_refused(host: str) -> None:
    with pytest.raises(RequestError, match="--host"):
        server.check(options(host=host))


def test_an_allowed_host_has_to_be_a_name() -> None:
    with pytest.raises(RequestError, match="--allow-host"):
        server.check(options(allow_host=["https://studio.example"]))


def test_a_refusal_comes_before_anything_heavy_is_imported() -> None:
    code = (
        "import argparse, sys\n"
        "from app import server\n"
        "from models.errors import RequestError\n"
        "try:\n"
        "    server.check(argparse.Namespace(host='0.0.0.0', share=False, auth_file=None, allow_host=[]))\n"
        "except RequestError:\n"
        "    print({'torch', 'gradio', 'starlette', 'numpy', 'PIL'} & set(sys.modules))\n"
    )
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "set()"


def test_a_taken_port_is_explained() -> None:
    with socket.socket() as other:
        port = quiet_port()
        other.bind(("127.0.0.1", port))
        other.listen()
        with pytest.raises(StudioError, match=f"Port {port} .*--port") as caught:
            server.free_port("127.0.0.1", port)
    assert caught.value.exit_code == 1
    assert server.free_port("127.0.0.1", port) == port


@pytest.mark.parametrize(
    ("host", "port"), [("203.0.113.7", 0), ("127.0.0.1", 65536), ("127.0.0.1", -1), ("no.invalid", 0)]
)
def test_an_address_that_is_not_ours_is_a_wrong_request(
    host: str, port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def look_up(name: str, port: int, **_kind: object) -> object:
        if name == "no.invalid":  # without asking anybody outside
            raise socket.gaierror(socket.EAI_NONAME, "not known")
        return [(socket.AF_INET, socket.SOCK_STREAM, 0, "", (name, port))]

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    with pytest.raises(RequestError, match=r"--host|--port|cannot listen"):
        server.free_port(host, port)


def test_a_port_that_needs_more_rights_is_a_wrong_request(monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(*_address: object) -> None:
        raise OSError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(socket.socket, "bind", forbidden)
    with pytest.raises(RequestError, match="Permission denied"):
        server.free_port("127.0.0.1", 80)


def test_settings_of_other_gradio_applications_do_not_count_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    doors_openers = (
        "GRADIO_SHARE",
        "GRADIO_ALLOWED_PATHS",
        "GRADIO_MCP_SERVER",
        "GRADIO_VIBE_MODE",
        "GRADIO_DEBUG",
    )
    for name in doors_openers:
        monkeypatch.setenv(name, "1")
    monkeypatch.setenv("GRADIO_ANALYTICS_ENABLED", "True")
    monkeypatch.setenv("GRADIO_TEMP_DIR", "so that the end of this test puts back what was there")
    monkeypatch.delenv("GRADIO_TEMP_DIR")
    gradio_server.prepare_environment(tmp_path / "outputs")
    assert not set(doors_openers) & set(os.environ)
    assert os.environ["GRADIO_ANALYTICS_ENABLED"] == "False"
    cache = Path(os.environ["GRADIO_TEMP_DIR"])
    assert cache.parent == tmp_path / "outputs"
    if os.name == "posix":
        assert cache.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize(
    ("host", "end"),
    [("0.0.0.0", "127.0.0.1"), ("::", "::1"), ("192.168.1.5", "192.168.1.5"), ("127.0.0.2", "127.0.0.2")],
)
def test_the_tunnel_ends_where_the_server_listens(
    host: str, end: str, auth_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import gradio

    asked: list[tuple[object, ...]] = []
    monkeypatch.setattr(
        "gradio.networking.setup_tunnel", lambda *words: (asked.append(words), "https://abc.gradio.live")[1]
    )
    doors = gradio_server.Doors(host, 7860, Hosts(host, ()), None)
    assert gradio_server.share(gradio.Blocks(analytics_enabled=False), doors) == "https://abc.gradio.live"
    assert asked[0][:2] == (end, 7860)


def test_a_share_says_who_can_reach_it_who_can_come_in_and_how_it_ends() -> None:
    said = server.SHARED.format(url="https://abc.gradio.live", file="people.txt")
    for words in ("https://abc.gradio.live", "Anybody", "a week", "people.txt", "auth add", "Ctrl+C"):
        assert words in said


def test_the_models_are_the_one_asked_for_and_the_good_ones_of_checkpoints(
    tiny_model_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    checkpoints = tmp_path / "checkpoints"
    checkpoints.mkdir()
    monkeypatch.setattr(model_list, "CHECKPOINTS", checkpoints)
    assert model_list.model_folders(checkpoints / "starter") == []  # the page opens and says so
    (checkpoints / "good").symlink_to(tiny_model_folder)
    (checkpoints / "bad").mkdir()
    (checkpoints / "bad" / "model_index.json").write_text("{}")
    assert model_list.model_folders(tiny_model_folder) == [tiny_model_folder]
    assert "bad" in capsys.readouterr().err
    for wrong in (tmp_path / "missing", checkpoints / "bad"):
        with pytest.raises(ModelError):
            model_list.model_folders(wrong)


class Page:
    """`launch.py ui` as a process of its own."""

    def __init__(self, folder: Path, *words: str) -> None:
        environment = os.environ | {
            "LATENT_STUDIO_OUTPUTS": str(folder / "outputs"), "LATENT_STUDIO_RUNS": str(folder / "runs"),
            "HTTP_PROXY": "http://127.0.0.1:9", "HTTPS_PROXY": "http://127.0.0.1:9",  # nobody listens there
        }  # fmt: skip
        command = [sys.executable, str(ROOT / "launch.py"), "--no-setup", "ui", "--no-browser", *words]
        # Where the tests themselves run in the background, Ctrl+C is ignored, and children inherit that.
        before = signal.signal(signal.SIGINT, signal.default_int_handler)
        # A pipe that nobody reads meanwhile may fill, and hold the server up.
        self.errors = folder / f"errors-{len(list(folder.glob('errors-*')))}.txt"
        try:
            with self.errors.open("w") as errors:
                self.process = subprocess.Popen(
                    command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=errors, text=True
                )
        finally:
            signal.signal(signal.SIGINT, before)
        self.timer = threading.Timer(START_SECONDS, self.process.kill)
        self.timer.start()

    def ready(self) -> str:
        """Wait for the line that names the address."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if "ready" in line:
                return line.split()[-1]
        raise AssertionError(self.errors.read_text())

    def end(self, signal_number: int | None = None) -> tuple[int, str, str]:
        """Send a signal and wait; exit code, stdout, stderr."""
        if signal_number is not None:
            self.process.send_signal(signal_number)
        output, _ = self.process.communicate(timeout=START_SECONDS)
        return self.process.returncode, output, self.errors.read_text()

    def close(self) -> None:
        self.timer.cancel()
        if self.process.poll() is None:
            self.process.kill()
        self.process.communicate()


@pytest.fixture
def page(tmp_path: Path, tiny_model_folder: Path) -> Iterator[Callable[..., Page]]:
    pages: list[Page] = []

    def start(*words: str) -> Page:
        pages.append(Page(tmp_path, "--model", str(tiny_model_folder), "--port", "0", *words))
        return pages[-1]

    yield start
    for opened in pages:
        opened.close()


def status(url: str, host: str | None = None, password: str | None = None) -> int:
    request = urllib.request.Request(url, headers={} if host is None else {"Host": host})
    if password is not None:
        request.add_header("Authorization", f"Bearer ann:{password}")
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=60) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="signals")
@pytest.mark.parametrize(("name", "code"), [("SIGINT", 130), ("SIGTERM", 143)])
def test_the_page_starts_prints_its_address_and_stops_when_told(
    page: Callable[..., Page], name: str, code: int
) -> None:
    running = page()
    url = running.ready()
    assert url.startswith("http://127.0.0.1:")
    assert status(url) == 200
    assert status(url, host="evil.example") == 403
    returned, _, errors = running.end(getattr(signal, name))
    assert returned == code
    assert "Traceback" not in errors


@pytest.mark.slow
def test_with_passwords_the_page_may_be_opened_to_others(page: Callable[..., Page], auth_file: Path) -> None:
    url = page("--host", "0.0.0.0", "--auth-file", str(auth_file)).ready()
    assert status(url) == 401
    assert status(url, password="wrong guess") == 401
    assert status(url, password=PASSWORD) == 200
    assert status(url, host="evil.example", password=PASSWORD) == 403


@pytest.mark.slow
def test_without_the_internet_share_says_so_and_fails(page: Callable[..., Page], auth_file: Path) -> None:
    code, _, errors = page("--share", "--auth-file", str(auth_file)).end()
    assert code == 1
    assert "No share link could be made" in errors
    assert "auth add" not in errors
    assert "Traceback" not in errors


@pytest.mark.slow
@pytest.mark.parametrize("opening", [("--share",), ("--host", "0.0.0.0")])
def test_the_command_line_refuses_to_open_the_page_without_passwords(
    page: Callable[..., Page], tmp_path: Path, opening: tuple[str, ...]
) -> None:
    code, output, errors = page(*opening).end()
    assert code == 2
    assert output == ""
    assert HELPING_COMMAND in errors
    assert len(errors.strip().splitlines()) == 1
    assert not (tmp_path / "outputs").exists()  # nothing was written
