import signal
import time

import pytest
from processes import finish, train, trained
from safetensors.torch import load_file

pytestmark = pytest.mark.slow
STEPS = {"training.steps": 4, "training.batch_size": 8, "optimizer.warmup_steps": 1, "checkpoints.every_steps": 2}


def settings(stage, pictures, model, **more):
    parts = {"model.autoencoder": model, "model.text_encoder": model} if stage == "diffusion" else {}
    return {"data.path": pictures, **STEPS, **parts, **more}


def difference(one, other, part, step=4):
    """The largest difference of two runs' tensors in a file of their checkpoints."""
    files = [load_file(run / f"checkpoints/step-{step}/{part}.safetensors") for run in (one, other)]
    assert files[0].keys() == files[1].keys()
    return max(float((a - files[1][name]).abs().max()) for name, a in files[0].items())


@pytest.mark.parametrize(
    ("stage", "more"),
    [
        ("autoencoder", {}),
        ("diffusion", {}),
        ("diffusion", {"training.sharding": "fsdp2"}),
    ],
    ids=["autoencoder", "diffusion", "diffusion fsdp2"],
)
def test_two_processes_train_the_weights_of_one(picture_folder, tiny_model_folder, tmp_path, stage, more):
    alone, together = tmp_path / "alone", tmp_path / "together"
    trained(stage, alone, **settings(stage, picture_folder, tiny_model_folder))
    trained(stage, together, ranks=2, **settings(stage, picture_folder, tiny_model_folder, **more))
    for part in ("weights", "ema", "optimizer-exp_avg"):
        print(part, difference(alone, together, part), difference(alone, together, part, 2))
    assert difference(alone, together, "weights") < 1e-6
    assert difference(alone, together, "ema") < 1e-6
