from types import SimpleNamespace

import pytest

from models.errors import StudioError
from training import disk
from training.disk import require_space


def test_a_full_disk_is_said_with_the_bytes_before_anything_is_written(tmp_path, monkeypatch):
    monkeypatch.setattr(disk.shutil, "disk_usage", lambda _: SimpleNamespace(free=1100))
    require_space(tmp_path / "cache", 1000, "latents take", ", or go")
    with pytest.raises(StudioError, match=r"latents take 1,001 bytes.* has 1,100 free; make room, or go"):
        require_space(tmp_path / "cache", 1001, "latents take", ", or go")
