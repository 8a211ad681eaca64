"""Models by their id on a hub: a real HTTP server on loopback that answers what huggingface_hub asks."""

import hashlib
import json
import shutil
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from app.hub import fetched, wanted_files
from app.model_list import model_folders
from models.errors import ModelError
from models.folder_check import check_model_folder

COMMIT = "0123456789abcdef0123456789abcdef01234567"
NAME = "somebody/tiny-model"


class Hub(ThreadingHTTPServer):
    """Serves the files of `repositories` by id; `asked` are the paths that were asked for."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.repositories: dict[str, Path] = {}
        self.asked: list[str] = []

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Handler(BaseHTTPRequestHandler):
    server: Hub

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path = self.path.partition("?")[0].strip("/")
        self.server.asked.append(path)
        words = path.split("/")
        api = words[:2] == ["api", "models"]
        name = "/".join(words[2:4] if api else words[:2])
        folder = self.server.repositories.get(name)
        if folder is None:
            self._answer(404, b"{}", {"X-Error-Code": "RepoNotFound"})
        elif api:
            files = {
                file.relative_to(folder).as_posix(): file for file in folder.rglob("*") if file.is_file()
            }
            tree = [
                {"type": "file", "path": one, "size": file.stat().st_size, "oid": _oid(file)}
                for one, file in files.items()
            ]
            siblings = [{"rfilename": one["path"], "size": one["size"]} for one in tree]
            about = {"id": name, "modelId": name, "sha": COMMIT, "siblings": siblings, "private": False}
            self._answer(200, json.dumps(tree if "tree" in words[4:5] else about).encode())
        else:
            file = folder.joinpath(*words[4:])
            headers = {"ETag": f'"{_oid(file)}"', "X-Repo-Commit": COMMIT}
            self._answer(200, file.read_bytes(), headers)

    def _answer(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for key, value in ({"Content-Length": str(len(body))} | (headers or {})).items():
            self.send_header(key, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def log_message(self, format: str, *values: object) -> None:
        """Say nothing."""


def _oid(file: Path) -> str:
    return hashlib.sha1(file.read_bytes()).hexdigest()


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    server = Hub()
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    monkeypatch.setenv("HF_ENDPOINT", server.url)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.setenv("LATENT_STUDIO_MODELS", str(tmp_path / "models"))
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture
def repository(hub: Hub, tiny_model_folder: Path, tmp_path: Path) -> Path:
    """A model as people put it on a hub: with pickles, code and pictures beside what is wanted."""
    folder = tmp_path / "repository"
    shutil.copytree(tiny_model_folder, folder)
    for name in ("unet/diffusion_pytorch_model.bin", "unet/code.py", "safety_checker/model.safetensors",
                 "unet/diffusion_pytorch_model.non_ema.safetensors", "preview.png", "a.ckpt"):  # fmt: skip
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(b"x")
    hub.repositories[NAME] = folder
    return folder


@pytest.mark.slow
def test_a_model_is_fetched_once_and_then_needs_no_network(
    hub: Hub, repository: Path, tmp_path: Path
) -> None:
    folder = fetched(Path(NAME))
    assert folder == tmp_path / "models" / NAME
    check_model_folder(folder)
    have = {file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file()}
    assert have < {file.relative_to(repository).as_posix() for file in repository.rglob("*")}
    assert not any(name.endswith((".bin", ".py", ".png", ".ckpt")) or "safety" in name for name in have)
    assert "unet/diffusion_pytorch_model.non_ema.safetensors" not in have
    asked_before = len(hub.asked)
    hub.repositories.clear()
    assert fetched(Path(NAME)) == folder
    assert model_folders(Path(NAME))[0] == folder.resolve()
    assert len(hub.asked) == asked_before


@pytest.mark.slow
def test_two_who_ask_at_once_fetch_it_once(hub: Hub, repository: Path) -> None:
    with ThreadPoolExecutor(2) as threads:
        folders = list(threads.map(fetched, [Path(NAME)] * 2))
    assert folders[0] == folders[1]
    check_model_folder(folders[0])
    weights = [path for path in hub.asked if path.endswith("unet/diffusion_pytorch_model.safetensors")]
    assert len(weights) <= 2  # HEAD and GET


@pytest.mark.slow
def test_without_a_network_and_for_unknown_names_there_is_one_sentence(
    hub: Hub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with pytest.raises(ModelError, match=r"There is no folder nobody/nothing, .* has none") as said:
        fetched(Path("nobody/nothing"))
    assert "\n" not in str(said.value)
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")  # where nobody listens
    with pytest.raises(ModelError, match=r"cannot be reached .* connect to a network") as said:
        fetched(Path(NAME))
    assert "\n" not in str(said.value)
    assert not (tmp_path / "models" / NAME).exists()


@pytest.mark.slow
def test_what_is_no_model_of_a_kind_that_is_read_is_refused_before_its_weights_are_fetched(
    hub: Hub, repository: Path, tmp_path: Path
) -> None:
    index = json.loads((repository / "model_index.json").read_text())
    (repository / "model_index.json").write_text(json.dumps(index | {"_class_name": "FluxPipeline"}))
    with pytest.raises(ModelError, match="of the kind 'FluxPipeline'"):
        fetched(Path(NAME))
    assert not any("safetensors" in path for path in hub.asked)
    assert not (tmp_path / "models" / NAME).exists()


def test_paths_are_no_ids_and_nobody_is_asked_for_them(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    root = Path(__file__).parents[2]
    monkeypatch.chdir(root)
    for name in ("checkpoints/starte", "/nobody/nothing", "nothing", "a/b/c", "../x", ".a/b", "a/..", "ä/b"):
        assert fetched(Path(name)) == Path(name)
    assert hub.asked == []


def test_of_a_repository_only_data_is_wanted_and_each_weight_once() -> None:
    files = {
        name: 1
        for name in (
            "model_index.json", "README.md", "x.ckpt", "unet/config.json", "unet/model.py",
            "unet/diffusion_pytorch_model.fp16.safetensors", "unet/diffusion_pytorch_model.safetensors",
            "text_encoder/model.fp16.safetensors", "text_encoder/config.json", "tokenizer/merges.txt",
            "tokenizer/../evil.json", "tokenizer/deep/er.json", "safety_checker/model.safetensors",
            "scheduler/scheduler_config.json",
        )
    }  # fmt: skip
    assert set(wanted_files(files)) == {
        "model_index.json", "README.md", "unet/config.json", "unet/diffusion_pytorch_model.safetensors",
        "text_encoder/model.fp16.safetensors", "text_encoder/config.json", "tokenizer/merges.txt",
        "scheduler/scheduler_config.json",
    }  # fmt: skip
    with pytest.raises(ModelError, match=r"diffusion_pytorch_model.bin, a pickle"):
        wanted_files({"model_index.json": 1, "unet/diffusion_pytorch_model.bin": 1})
    with pytest.raises(ModelError, match=r"download sd.safetensors and name that file"):
        wanted_files({"sd.safetensors": 1})
