import json

import pytest
import torch

from training.checkpoint import is_whole, load_checkpoint, prune, save_checkpoint, steps


def write(folder, step, value=0.0):
    return save_checkpoint(folder, step, {"weights": {"w": torch.full((3,), value)}}, {"samples": step * 2})


def test_a_checkpoint_comes_back_as_it_was_written(tmp_path):
    write(tmp_path, 5, 1.5)
    tensors, scalars = load_checkpoint(tmp_path)
    assert torch.equal(tensors["weights"]["w"], torch.full((3,), 1.5))
    assert scalars == {"step": 5, "samples": 10}


def test_without_a_checkpoint_there_is_none(tmp_path):
    assert load_checkpoint(tmp_path) is None


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
    _, scalars = load_checkpoint(tmp_path)
    assert scalars["step"] == 1


def test_a_half_written_folder_is_never_read_and_later_removed(tmp_path):
    write(tmp_path, 1)
    partial = tmp_path / "step-2.partial"
    partial.mkdir()
    (partial / "state.json").write_text(json.dumps({"step": 2}))
    _, scalars = load_checkpoint(tmp_path)
    assert scalars["step"] == 1
    prune(tmp_path, keep=3)
    assert not partial.exists()


def test_pruning_keeps_the_newest_by_number_and_never_none(tmp_path):
    for step in (9, 10, 100):
        write(tmp_path, step)
    prune(tmp_path, keep=2)
    assert sorted(path.name for path in steps(tmp_path)) == ["step-10", "step-100"]
    prune(tmp_path, keep=0)
    assert [path.name for path in steps(tmp_path)] == ["step-100"]
