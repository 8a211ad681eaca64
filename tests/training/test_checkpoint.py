import errno
import json

import pytest
import torch

from models.errors import StudioError
from training import checkpoint
from training.checkpoint import (
    is_whole,
    load_checkpoint,
    newest_step,
    prune,
    save_checkpoint,
    set_aside_after,
    steps,
)


def write(folder, step, value=0.0):
    return save_checkpoint(folder, step, {"weights": {"w": torch.full((3,), value)}}, {"note": step * 2})


def test_a_checkpoint_comes_back_as_it_was_written(tmp_path):
    write(tmp_path, 5, 1.5)
    tensors, scalars = load_checkpoint(tmp_path / "step-5")
    assert torch.equal(tensors["weights"]["w"], torch.full((3,), 1.5))
    assert scalars == {"step": 5, "note": 10}


def test_what_was_loaded_outlives_the_file(tmp_path):
    tensors, _ = load_checkpoint(write(tmp_path, 5, 1.5))
    with (tmp_path / "step-5/weights.safetensors").open("r+b") as file:
        file.write(bytes(200))  # a mapped tensor would show it
    assert torch.equal(tensors["weights"]["w"], torch.full((3,), 1.5))


def test_without_a_checkpoint_there_is_none(tmp_path):
    assert newest_step(tmp_path) == 0
    assert newest_step(tmp_path / "nowhere") == 0


@pytest.mark.parametrize("name", ["weights.safetensors", "state.json", "manifest.json"])
@pytest.mark.parametrize("damage", ["truncate", "delete", "flip"])
def test_a_damaged_checkpoint_is_passed_over_for_the_one_before(tmp_path, name, damage):
    write(tmp_path, 1, 1.0)
    newest = write(tmp_path, 2, 2.0)
    file = newest / name
    content = bytearray(file.read_bytes())
    if damage == "delete":
        file.unlink()
    else:
        content[len(content) // 2] ^= 0x20
        file.write_bytes(content if damage == "flip" else content[: len(content) // 2])
    assert not is_whole(newest)
    assert newest_step(tmp_path) == 1


def test_a_checkpoint_that_cannot_be_read_today_is_not_called_damaged(tmp_path, monkeypatch):
    newest = write(tmp_path, 2)

    def refuse(path):
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(checkpoint, "sha256", refuse)  # root may read everything
    with pytest.raises(StudioError, match=r"cannot be read \(Permission denied\)"):
        newest_step(tmp_path)
    assert newest.is_dir()


def test_a_half_written_folder_is_never_read_and_later_removed(tmp_path):
    write(tmp_path, 1)
    partial = tmp_path / "step-2.partial"
    partial.mkdir()
    (partial / "state.json").write_text(json.dumps({"step": 2}))
    assert newest_step(tmp_path) == 1
    prune(tmp_path, keep=3)
    assert not partial.exists()


def test_pruning_keeps_the_newest_by_number_and_never_none(tmp_path):
    for step in (9, 10, 100):
        write(tmp_path, step)
    prune(tmp_path, keep=2)
    assert sorted(path.name for path in steps(tmp_path)) == ["step-10", "step-100"]
    prune(tmp_path, keep=0)
    assert [path.name for path in steps(tmp_path)] == ["step-100"]


@pytest.mark.parametrize(("steps_done", "damaged", "keep"), [((6, 9), (9,), 1), ((3, 6, 9), (6, 9), 2)])
def test_damaged_later_checkpoints_never_push_out_the_good_ones(tmp_path, steps_done, damaged, keep):
    for step in steps_done:
        write(tmp_path, step, float(step))
    for step in damaged:
        (tmp_path / f"step-{step}/weights.safetensors").write_bytes(b"torn")
    step = newest_step(tmp_path)
    set_aside_after(tmp_path, step)
    write(tmp_path, step + 1)
    prune(tmp_path, keep)
    assert all(is_whole(path) for path in steps(tmp_path))
    assert newest_step(tmp_path) == step + 1


def test_saving_the_same_step_again_replaces_it_whole(tmp_path):
    write(tmp_path, 4, 1.0)
    write(tmp_path, 4, 2.0)
    prune(tmp_path, keep=1)
    tensors, _ = load_checkpoint(tmp_path / "step-4")
    assert torch.equal(tensors["weights"]["w"], torch.full((3,), 2.0))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["latest", "step-4"]
