import errno
from types import SimpleNamespace

import pytest

from models.errors import StudioError
from training import disk
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
