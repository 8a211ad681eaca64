import shutil
from argparse import Namespace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from models.errors import StudioError
from models.folder import load_model, model_id
from tests.tiny import make_tiny_run
from training import diffusion, distill
from training.checkpoint import save_checkpoint
from training.export import checkpoint_steps, export_checkpoint

STUDENT = "unet_instant"
UNET = Path("unet/diffusion_pytorch_model.safetensors")
STEADY = {"optimizer.warmup_steps": 0, "optimizer.decay_share": 0}  # so that step 2 of 4 is step 2 of 2
KINDS = {
    "text": {},
    "no words": {"model.condition": "none"},
    "joint": {"model.train_text_encoder": "finetune"},
    "lora": {"lora.rank": 2, "lora.text_encoder": "true", "optimizer.learning_rate": 1e-2},
    "student": {},
    "student of adapters": {"lora.rank": 2, "optimizer.learning_rate": 1e-2},
}


def run(kind: str, pictures: Path, begin: Path, folder: Path, steps: int) -> Path:
    """A training that keeps the checkpoint of every second step."""
    values = {
        "data.path": pictures,
        "training.steps": steps,
        "training.batch_size": 4,
        "training.sample_every_steps": 1000,
        "checkpoints.every_steps": 2,
        "checkpoints.keep": "all",
        **STEADY,
        **KINDS[kind],
    }
    stage, config = (distill, "tiny-distill") if "student" in kind else (diffusion, "tiny-diffusion")
    if "student" in kind or kind == "lora":
        values["init.model"] = begin
    else:
        values |= {"model.autoencoder": begin, "model.text_encoder": begin}
    words = [f"{key}={value}" for key, value in values.items()]
    assert stage.main(Namespace(config=config, set=words, run=folder, dry_run=False)) == 0
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_a_checkpoint_is_the_model_that_a_training_of_so_many_steps_ends_with(
    picture_folder, tiny_model_folder, tmp_path, kind
) -> None:
    short = run(kind, picture_folder, tiny_model_folder, tmp_path / "short", 2)
    long = run(kind, picture_folder, tiny_model_folder, tmp_path / "long", 4)
    part = STUDENT if "student" in kind else "unet"
    for step, same in ((2, short), (4, long)):
        folder = export_checkpoint(long, step, tmp_path / "exported")
        assert folder.name == f"long-step-{step}"
        assert model_id(folder, part) == model_id(same / "model", part)
        load_model(folder)
    assert model_id(short / "model", part) != model_id(long / "model", part)


@pytest.fixture(scope="module")
def begun(tmp_path_factory) -> Path:
    return make_tiny_run(tmp_path_factory.mktemp("runs") / "circles", [1, 12, 9])


def test_what_is_not_trained_is_linked_and_what_is_not_true_of_it_left_out(begun, tmp_path) -> None:
    (begun / "model/metrics.json").write_text("{}")
    folder = export_checkpoint(begun, 1, begun.parent / "exported")
    for name in ("vae/diffusion_pytorch_model.safetensors", "tokenizer/tokenizer.json", "model_index.json"):
        assert (folder / name).samefile(begun / "model" / name)
    assert not (folder / UNET).samefile(begun / "model" / UNET)
    assert not (folder / "metrics.json").exists()
    assert sorted(path.name for path in folder.parent.iterdir()) == ["circles-step-1"]


def test_a_folder_is_made_again_only_for_other_averages(begun, tmp_path) -> None:
    made = export_checkpoint(begun, 1, tmp_path)
    (made / "mark").touch()
    assert export_checkpoint(begun, 1, tmp_path) == made
    assert (made / "mark").exists()
    averages = load_file(begun / "model" / UNET)
    other = shutil.copytree(begun, tmp_path / "other" / "circles")
    save_checkpoint(other / "checkpoints", 1, {"ema": averages, "weights": averages}, {})
    assert export_checkpoint(other, 1, tmp_path) == made
    assert not (made / "mark").exists()
    assert torch.equal(load_file(made / UNET)["conv_in.bias"], averages["conv_in.bias"])


def test_the_steps_of_a_run_come_in_order(begun) -> None:
    assert checkpoint_steps(begun) == [1, 9, 12]
    assert checkpoint_steps(begun.parent) == []


def test_what_cannot_be_exported_is_said_and_leaves_nothing(begun, tmp_path) -> None:
    own = shutil.copytree(begun, tmp_path / "runs" / "own")
    averages = own / "checkpoints/step-9/ema.safetensors"
    averages.write_bytes(averages.read_bytes()[:-1] + b"x")
    for step, words in ((9, "damaged"), (7, r"no whole checkpoint of step 7; there is 1, 9, 12")):
        with pytest.raises(StudioError, match=words):
            export_checkpoint(own, step, tmp_path / "exported")
    averages.unlink()
    with pytest.raises(StudioError, match=r"ema\.safetensors is gone"):
        export_checkpoint(own, 9, tmp_path / "exported")
    (own / "model/model_index.json").unlink()
    with pytest.raises(StudioError, match=r"not written its model/ yet"):
        export_checkpoint(own, 1, tmp_path / "exported")
    (own / "config.toml").write_text("[autoencoder]\n")
    with pytest.raises(StudioError, match="trains an autoencoder"):
        export_checkpoint(own, 1, tmp_path / "exported")
    assert list((tmp_path / "exported").iterdir()) == []
