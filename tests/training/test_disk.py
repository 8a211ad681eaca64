import errno
from types import SimpleNamespace

import pytest
import torch

from models.errors import StudioError
from training import disk
from training.checkpoint import load_checkpoint, newest_step, save_checkpoint
from training.disk import is_full, make_folder, require_space


def test_a_new_folder_and_each_above_it_is_named_on_the_disk(tmp_path, monkeypatch):
    synced = []
    monkeypatch.setattr(disk, "sync", lambda path: synced.append(path.relative_to(tmp_path).as_posix()))
    make_folder(tmp_path / "runs/one/samples")
    assert (tmp_path / "runs/one/samples").is_dir()
    assert sorted(synced) == [".", "runs", "runs/one"]
    make_folder(tmp_path / "runs/one/samples")
    assert len(synced) == 3


def test_a_full_disk_is_known_by_its_number_or_its_words():
    assert is_full(OSError(errno.ENOSPC, "x"))
    assert is_full(OSError(errno.EDQUOT, "x"))
    assert is_full(Exception('I/O error: Os { code: 28, message: "No space left on device" }'))
    assert not is_full(OSError(errno.EACCES, "x"))


def test_a_full_disk_is_said_with_the_bytes_before_anything_is_written(tmp_path, monkeypatch):
    monkeypatch.setattr(disk.shutil, "disk_usage", lambda _: SimpleNamespace(free=1100))
    require_space(tmp_path / "cache", 1000, "latents take", ", or go")
    with pytest.raises(StudioError, match=r"latents take 1,001 bytes.* has 1,100 free; make room, or go"):
        require_space(tmp_path / "cache", 1001, "latents take", ", or go")


def test_a_disk_too_full_for_a_checkpoint_keeps_the_one_before_whole(tmp_path, monkeypatch):
    def save(step):
        return save_checkpoint(tmp_path, step, {"weights": {"w": torch.full((250,), float(step))}}, {})

    save(1)
    before = {file: file.read_bytes() for file in (tmp_path / "step-1").iterdir()}
    monkeypatch.setattr(disk.shutil, "disk_usage", lambda _: SimpleNamespace(free=999))
    with pytest.raises(StudioError, match=r"a checkpoint takes 1,000 bytes.* 999 free; make room, and run"):
        save(2)
    assert {file: file.read_bytes() for file in (tmp_path / "step-1").iterdir()} == before
    assert [path.name for path in tmp_path.glob("step-*")] == ["step-1"]
    assert newest_step(tmp_path) == 1
    assert (tmp_path / "latest").resolve() == (tmp_path / "step-1").resolve()
    monkeypatch.undo()
    save(2)
    assert newest_step(tmp_path) == 2
    assert load_checkpoint(tmp_path / "step-2")[0]["weights"]["w"].eq(2).all()
