import ast
import json
import signal
import sys
import time

import pytest
from safetensors.torch import load_file

from tests.training.processes import finish, start, train, trained
from training.config import DiffusionConfig, load_config
from training.diffusion import DiffusionStage
from training.distributed import connect
from training.estimate import estimate
from training.loop import Trainer

pytestmark = pytest.mark.slow
STEPS = {
    "training.steps": 4,
    "training.batch_size": 8,
    "optimizer.warmup_steps": 1,
    "checkpoints.every_steps": 2,
}


def settings(stage, pictures, model, **more):
    # What rounding alone would decide: the kink of the gradient loss where neighbours are alike, as on white,
    # and where Adam takes a gradient that is all noise.
    parts = {"autoencoder.gradient_weight": 0, "optimizer.epsilon": 1e-3}
    if stage == "diffusion":
        parts = {"model.autoencoder": model, "model.text_encoder": model}
    if stage == "distill":
        parts = {"init.model": model, "optimizer.epsilon": 1e-3}
    return {"data.path": pictures, **STEPS, **parts, **more}


def difference(one, other, part, step=4):
    """The largest difference of two runs' tensors in a file of their last checkpoints."""
    files = [load_file(run / f"checkpoints/step-{step}/{part}.safetensors") for run in (one, other)]
    assert files[0].keys() == files[1].keys()
    return max(float((a - files[1][name]).abs().max()) for name, a in files[0].items())


@pytest.mark.parametrize(
    "stage", ["autoencoder", "diffusion", pytest.param("distill", marks=pytest.mark.exhaustive)]
)
def test_processes_and_micro_batches_train_the_weights_of_one_process(
    picture_folder, tiny_model_folder, tmp_path, stage
):
    ways = {
        "two processes": (2, {}),
        "four micro-batches": (1, {"training.accumulate": 4}),
        "two processes, two micro-batches": (2, {"training.accumulate": 2}),
    }
    if stage == "diffusion":
        ways["sharded"] = (2, {"training.sharding": "fsdp2"})
    trained(stage, tmp_path / "alone", **settings(stage, picture_folder, tiny_model_folder))
    for name, (ranks, more) in ways.items():
        run = tmp_path / name.replace(" ", "-")
        trained(stage, run, ranks, **settings(stage, picture_folder, tiny_model_folder, **more))
        for part in ("weights", "ema", "optimizer-exp_avg"):
            assert difference(tmp_path / "alone", run, part) < 1e-6, (name, part)


@pytest.mark.parametrize("regularizer", ["kl", "vq"])
def test_two_processes_train_discriminator_logvar_and_codebook_as_one_does(
    picture_folder, tmp_path, regularizer
):
    """Adaptive weight, codes in use and what dead ones become are those of the whole batch."""
    words = {
        "autoencoder.regularizer": regularizer, "autoencoder.learn_logvar": "true",
        "autoencoder.revive_after_steps": 1, "autoencoder.adversarial_weight": 0.5,
        "autoencoder.adversarial_start_step": 1, "autoencoder.discriminator_channels": 16,
        "autoencoder.discriminator_layers": 1, "training.log_every_steps": 1,
    }  # fmt: skip
    wanted = settings("autoencoder", picture_folder, None, **words)
    runs = [tmp_path / name for name in ("alone", "two")]
    for ranks, run in enumerate(runs, 1):
        trained("autoencoder", run, ranks, **wanted)
    for part in ("weights", "ema", "optimizer-exp_avg"):
        assert difference(*runs, part) < 1e-6, part
    logs = [[json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()] for run in runs]
    names = {"adaptive_weight", "logvar"} | ({"codebook_perplexity"} if regularizer == "vq" else set())
    for one, two in zip(*logs, strict=True):
        assert {name: one[name] for name in names & one.keys()} == pytest.approx(
            {name: two[name] for name in names & two.keys()}, rel=1e-4
        )
    assert names <= logs[0][2].keys()


def test_a_run_goes_on_with_another_number_of_processes(picture_folder, tiny_model_folder, tmp_path):
    wanted = settings("diffusion", picture_folder, tiny_model_folder)
    trained("diffusion", tmp_path / "alone", **wanted)
    sharded = wanted | {"training.sharding": "fsdp2", "checkpoints.keep": "all"}
    trained("diffusion", tmp_path / "run", ranks=2, **sharded)
    for left in ("checkpoints/step-4/manifest.json", "finished.json"):
        (tmp_path / "run" / left).unlink()
    said = trained("diffusion", tmp_path / "run", **sharded)
    assert "resumed from step 2" in said
    assert difference(tmp_path / "alone", tmp_path / "run", "weights") < 1e-6


def test_each_of_two_processes_holds_half_of_everything(picture_folder, tiny_model_folder, tmp_path):
    wanted = settings("diffusion", picture_folder, tiny_model_folder, **{"training.sharding": "fsdp2"})
    words = [f"{key}={value}" for key, value in wanted.items()]
    code = f"""
from training.config import DiffusionConfig, load_config
from training.diffusion import DiffusionStage
from training.distributed import connect
from training.loop import Trainer
config = load_config(DiffusionConfig, "tiny-diffusion", {words})
accelerator = connect(config.training)
trainer = Trainer(DiffusionStage(config), config, accelerator)
trainer.step(0)
parameters = list(trainer.stage.trained.parameters())
trainer.optimizer.zero_grad = lambda set_to_none: None  # which would drop the gradients
trainer.step(1)
kinds = {{"weights": parameters, "gradients": [p.grad for p in parameters]}}
kinds["averages"] = list(trainer.ema.weights.values())
kinds["moments"] = [trainer.optimizer.state[p]["exp_avg"] for p in parameters]
whole = sum(p.numel() for p in parameters)
print({{name: sum(t.to_local().numel() for t in kind) / whole for name, kind in kinds.items()}})
"""
    codes, said = finish(start([sys.executable, "-c", code], 2, tmp_path / "runs"))
    assert codes == [0, 0], said
    for out, _ in said:
        shares = ast.literal_eval(out.splitlines()[-1])
        assert shares == pytest.approx(dict.fromkeys(shares, 0.5), abs=0.01)
        assert set(shares) == {"weights", "gradients", "averages", "moments"}


def test_a_dry_run_tells_what_each_process_takes_of_a_shared_denoiser(
    picture_folder, tiny_model_folder, tmp_path
):
    """Half of what can be shared, and of work, activations and files what one process has by itself."""
    code = """
import json, sys
from training.config import DiffusionConfig, load_config
from training.diffusion import DiffusionStage
from training.distributed import connect
from training.estimate import estimate
from training.loop import Trainer
config = load_config(DiffusionConfig, "tiny-diffusion", sys.argv[1:])
accelerator = connect(config.training)
expected = estimate(Trainer(DiffusionStage(config, fill_cache=False), config, accelerator))
kinds = ("trained_parameters", "forward_flops", "training_flops", "disk_bytes")
print(json.dumps({**expected.memory_bytes, **{kind: getattr(expected, kind) for kind in kinds}}))
"""
    wanted = settings("diffusion", picture_folder, tiny_model_folder, **{"training.sample_pictures": 1})

    def words(**more):
        return [f"{key}={value}" for key, value in (wanted | more).items()]

    config = load_config(DiffusionConfig, "tiny-diffusion", words(**{"training.accumulate": 2}))
    stage = DiffusionStage(config, fill_cache=False)
    alone = estimate(Trainer(stage, config, connect(config.training)))
    memory = alone.memory_bytes
    weights = 4 * alone.trained_parameters
    assert (memory["gradients"], memory["optimiser"], memory["averages"]) == (weights, *2 * [2 * weights])
    command = [sys.executable, "-c", code, *words(**{"training.sharding": "fsdp2"})]
    codes, said = finish(start(command, 2, tmp_path / "runs"))
    assert codes == [0, 0], said
    for rank, (out, _) in enumerate(said):
        shared = json.loads(out.splitlines()[-1])
        assert shared["gradients"] == pytest.approx(weights / 2, rel=0.01)
        assert shared["optimiser"] == 2 * shared["gradients"]
        assert shared["averages"] == weights + shared["gradients"]  # its share, and the whole to draw with
        assert memory["weights"] - shared["weights"] == weights - shared["gradients"]
        assert shared["trained_parameters"] == alone.trained_parameters
        assert shared["disk_bytes"] == alone.disk_bytes
        # The second process sees other captions, which are longer or shorter.
        near = 0.02 * rank
        assert shared["forward_flops"] == pytest.approx(alone.forward_flops, rel=near)
        assert shared["training_flops"] == pytest.approx(alone.training_flops, rel=near)
        # What lies outside of the blocks stays fetched until the backward pass.
        own, most = memory["activations"], memory["activations"] + weights / 4
        assert own * (1 - near) <= shared["activations"] < most


@pytest.mark.exhaustive
def test_sharding_rounds_nothing_that_bf16_does_not_round_anyway(picture_folder, tiny_model_folder, tmp_path):
    """Times, targets and sums of gradients stay in float32, as in processes that each hold everything."""
    more = {"training.precision": "bf16", "training.accumulate": 2, "training.steps": 1}
    wanted = settings("diffusion", picture_folder, tiny_model_folder, **more)
    for sharding in ("ddp", "fsdp2"):
        trained("diffusion", tmp_path / sharding, 2, **wanted, **{"training.sharding": sharding})
    # Of the first step alone: from then on a last bit more or less makes other bf16 numbers of the weights.
    gradients = load_file(tmp_path / "ddp/checkpoints/step-1/optimizer-exp_avg.safetensors")
    largest = max(float(one.abs().max()) for one in gradients.values())
    assert difference(tmp_path / "ddp", tmp_path / "fsdp2", "optimizer-exp_avg", step=1) < 1e-5 * largest


def test_a_sharded_run_goes_on_to_the_same_weights(picture_folder, tiny_model_folder, tmp_path):
    wanted = settings("diffusion", picture_folder, tiny_model_folder)
    wanted |= {"training.sharding": "fsdp2", "checkpoints.keep": "all"}
    for name in ("whole", "cut"):
        trained("diffusion", tmp_path / name, ranks=2, **wanted)
    for left in ("checkpoints/step-4/manifest.json", "finished.json"):
        (tmp_path / "cut" / left).unlink()
    assert "resumed from step 2" in trained("diffusion", tmp_path / "cut", ranks=2, **wanted)
    for part in ("weights", "ema", "optimizer-exp_avg"):
        assert difference(tmp_path / "whole", tmp_path / "cut", part) == 0, part


@pytest.mark.parametrize("lost", [0, 1])
def test_a_killed_process_ends_the_others(picture_folder, tiny_model_folder, tmp_path, lost):
    endless = {"training.steps": 10**6, "checkpoints.every_steps": 5, "training.log_every_steps": 1}
    wanted = settings("diffusion", picture_folder, tiny_model_folder, **endless)
    processes = train("diffusion", tmp_path / "run", 2, **wanted)
    try:
        deadline = time.monotonic() + 300
        while not list((tmp_path / "run").glob("checkpoints/step-*[0-9]/manifest.json")):
            assert time.monotonic() < deadline
            time.sleep(0.2)
        processes[lost].kill()
        codes, said = finish(processes, timeout=300)
    finally:
        for process in processes:
            process.kill()
    assert codes[lost] == -signal.SIGKILL
    assert codes[1 - lost] not in (0, -signal.SIGKILL), said


def test_whoever_is_told_to_stop_stops_all_after_one_checkpoint(picture_folder, tiny_model_folder, tmp_path):
    endless = {"training.steps": 10**6, "training.log_every_steps": 1}
    wanted = settings("autoencoder", picture_folder, tiny_model_folder, **endless)
    processes = train("autoencoder", tmp_path / "run", 2, **wanted)
    deadline = time.monotonic() + 300
    while not list((tmp_path / "run").glob("checkpoints/step-*[0-9]/manifest.json")):
        assert time.monotonic() < deadline
        time.sleep(0.2)
    processes[1].terminate()
    codes, said = finish(processes, timeout=300)
    assert codes == [143, 143], said
    assert "stopped after step" in said[0][0]
    assert not (tmp_path / "run/finished.json").exists()


def test_a_batch_that_cannot_be_shared_equally_is_refused(picture_folder, tmp_path):
    wanted = settings("autoencoder", picture_folder, None, **{"training.accumulate": 3})
    codes, said = finish(train("autoencoder", tmp_path / "run", **wanted))
    assert codes == [2]
    assert "training.batch_size is 8" in said[0][1]
    assert not (tmp_path / "run").exists()
