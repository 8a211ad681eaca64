import os
import threading
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from models.errors import ModelError
from models.weights import read_metadata
from models.writing import save_weights, write_bytes

TENSORS = {"a.weight": torch.arange(6.0).view(2, 3), "b": torch.ones(4, dtype=torch.float16)}


def test_equal_weights_with_equal_words_about_them_are_equal_bytes(tmp_path: Path) -> None:
    about = {f"key {number}": '{"é": "\\n"}' for number in range(6)}
    for name in "abc":
        save_weights(tmp_path / name, TENSORS, None, dict(reversed(about.items())) if name == "b" else about)
    assert len({(tmp_path / name).read_bytes() for name in "abc"}) == 1
    assert read_metadata(tmp_path / "a") == about | {"format": "pt"}
    with safe_open(tmp_path / "a", "pt") as file:
        assert all(torch.equal(file.get_tensor(name), tensor) for name, tensor in TENSORS.items())


def test_weights_that_do_not_fit_half_precision_are_not_written(tmp_path: Path) -> None:
    file = tmp_path / "model.safetensors"
    with pytest.raises(ModelError, match=r"'big' is not finite in torch.float16"):
        save_weights(file, {"big": torch.tensor([70_000.0])}, torch.float16)
    assert not file.exists()


def test_identical_weights_are_left_alone_and_others_replaced(tmp_path: Path) -> None:
    file = tmp_path / "w"
    save_weights(file, TENSORS, None)
    first = file.stat()
    save_weights(file, TENSORS, None)
    assert file.stat().st_mtime_ns == first.st_mtime_ns
    save_weights(file, {**TENSORS, "b": torch.zeros(4)}, None)
    assert not load_file(file)["b"].any()
    assert file.stat().st_mode & 0o777 == 0o644
    assert list(tmp_path.iterdir()) == [file]


def test_a_reader_never_meets_half_a_file(tmp_path: Path) -> None:
    file = tmp_path / "f"
    write_bytes(file, b"a" * 100_000)
    done = threading.Event()

    def write() -> None:
        for letter in b"bcdefgh":
            write_bytes(file, bytes([letter]) * 100_000)
        done.set()

    thread = threading.Thread(target=write)
    thread.start()
    while not done.is_set():
        content = file.read_bytes()
        assert len(content) == 100_000
        assert len(set(content)) == 1
    thread.join()


def test_a_write_that_fails_leaves_the_old_file_and_no_litter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "f"
    write_bytes(file, b"old")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_bytes(file, b"new")
    assert file.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [file]


def test_a_file_that_has_its_bytes_already_is_left_alone(tmp_path):
    file = tmp_path / "config.json"
    write_bytes(file, b"same")
    before = file.stat()
    write_bytes(file, b"same")
    assert (file.stat().st_ino, file.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    write_bytes(file, b"else")
    assert file.read_bytes() == b"else"
