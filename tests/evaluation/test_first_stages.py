import dataclasses
import json
from pathlib import Path

import pytest
import torch

from app.commands.parser import parse
from evaluation import frontier as command
from evaluation.arms import LEARNING_RATES, SIZES, Arm, Experiment, arm_of
from evaluation.benchmark_training import draw_pictures
from evaluation.first_stage_report import NAME, Outcome, Point, distance_ratio, figures, lines, panels
from evaluation.first_stages import go_on_from, loss_of, train
from evaluation.intervals import Measured
from evaluation.throughput import Throughput, steps_of
from models.errors import RequestError
from models.unet import build_unet
from training.autoencoder import check_sizes
from training.diffusion import DiffusionStage


def words(*more, data="data", model="model"):
    named = ["evaluate", "frontier", "--data", str(data), "--model", str(model)]
    return [*named, "--first-stages", "pixels,kl-f4,vq-f4", *map(str, more)]


def experiment(*more, **folders):
    return Experiment.of(parse(words(*more, **folders)))


@pytest.fixture
def pictures(tmp_path):
    folder = tmp_path / "pictures"
    folder.mkdir()
    draw_pictures(folder, 32)
    for number in range(12, 64):
        (folder / f"{number}.png").unlink()
        (folder / f"{number}.txt").unlink()
    return folder


@pytest.mark.parametrize("size", SIZES)
def test_the_denoisers_of_all_arms_have_the_same_size_and_fit_their_latents(size):
    names = ["pixels", *(f"{kind}-f{f}" for f in SIZES[size].autoencoders for kind in ("kl", "vq"))]
    tried = experiment("--size", size, "--first-stages", ",".join(names))
    counts = []
    for arm in tried.arms:
        with torch.device("meta"):
            autoencoder = tried.untrained(arm)
            preset = tried.diffusion_config(arm, "x", 1e-3, 10).model.preset
            unet = build_unet(preset, autoencoder.latent_channels, 384)
        assert (autoencoder.downsampling_factor, autoencoder.regularizer) == (arm.f, arm.regularizer)
        check_sizes(arm.f, tried.pictures)
        counts.append(sum(parameter.numel() for parameter in unet.parameters()))
    assert len(counts) == len(names)
    assert max(counts) < 1.05 * min(counts)


def test_arms_differ_in_nothing_but_their_first_stage():
    tried = experiment()
    for one, other in ((tried.arms[1], tried.arms[2]), (tried.arms[0], tried.arms[1])):
        first, second = (tried.diffusion_config(arm, "x", 1e-3, 10) for arm in (one, other))
        model, training = (dataclasses.replace(getattr(first, part)) for part in ("model", "training"))
        model = dataclasses.replace(model, preset=second.model.preset)
        training = dataclasses.replace(training, name=second.training.name)
        assert dataclasses.replace(first, model=model, training=training) == second
    stages = [tried.autoencoder_config(arm, 100) for arm in tried.arms[1:]]
    assert {stage.autoencoder.regularizer for stage in stages} == {"kl", "vq"}
    assert stages[0].optimizer == stages[1].optimizer


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--first-stages", "kl-f4,vq-f4"], "name pixels and one"),
        (["--first-stages", "pixels"], "name pixels and one"),
        (["--first-stages", "pixels,kl-f5"], "has 'kl-f5'; there is pixels, kl-f4"),
        (["--size", "tiny", "--first-stages", "pixels,kl-f8"], "in the size tiny"),
        (["--samplers", "Euler,DDIM"], "drawn alike"),
        (["--steps", "4,8"], "drawn alike"),
        (["--trials", len(LEARNING_RATES) + 1], "--trials is 8"),
        (["--budgets", "300,60"], "more than the smallest of --budgets, 60"),
    ],
)
def test_experiments_that_make_no_sense_are_refused(more, message):
    with pytest.raises(RequestError, match=message):
        experiment(*more)


def test_what_is_timed_decides_the_folder_and_budgets_do_not(monkeypatch, tmp_path):
    base = experiment().folder
    assert experiment("--budgets", "100,200", "--trials", "2", "--count", "50").folder == base
    assert experiment("--first-stages", "kl-f4,vq-f4,pixels").folder == base  # pixels are always the first
    for more in (
        ["--batch-size", 8],
        ["--resolution", 32],
        ["--steps", 4],
        ["--first-stages", "pixels,kl-f8"],
    ):
        assert experiment(*more).folder != base


def test_a_budget_is_as_many_steps_as_the_speed_allows():
    assert steps_of(10.0, 100, 16) == 62
    assert steps_of(0.01, 1, 16) == 1


def speed(ratio):
    one = Measured(ratio, 0.9 * ratio, 1.1 * ratio)
    return Throughput(train=one, sample=one, train_ratio=one, sample_ratio=one, stage1=1.0, encode=10.0)


def outcome(*features):
    points = [
        Point(seconds=s, steps=s, images=4 * s, features=f)
        for s, f in zip((300, 1200), features, strict=True)
    ]
    trials = [{"learning_rate": 1e-3, "validation_loss": 0.5}]
    return Outcome(
        latents="3x4x4",
        denoiser_parameters=100,
        psnr_db=20.0,
        trials=trials,
        learning_rate=1e-3,
        points=points,
    )


def test_the_ratio_is_that_of_the_distances_and_has_no_interval_for_equal_pictures():
    draw = torch.Generator().manual_seed(0)
    real, near = (torch.randn(60, 8, generator=draw) for _ in range(2))
    assert distance_ratio(real, near + 1, near + 0.5).value > 1.5
    same = distance_ratio(real, near + 1, near + 1)
    assert (same.value, same.low, same.high) == (1, 1, 1)


def test_the_report_names_the_best_arm_and_what_stage_1_leaves_of_the_budget():
    draw = torch.Generator().manual_seed(0)
    real, drawn = (torch.randn(60, 8, generator=draw) for _ in range(2))
    tried = experiment("--budgets", "300,1200", "--stage1-seconds", "500", "--trial-seconds", 100)
    far = {"pixels": (3.0, 2.0), "kl-f4": (2.0, 1.0), "vq-f4": (1.5, 1.2)}
    outcomes = {name: outcome(*(drawn + shift for shift in shifts)) for name, shifts in far.items()}
    speeds = {"pixels": speed(1.0), "kl-f4": speed(3.0), "vq-f4": speed(2.0)}
    result = figures(tried, speeds, outcomes, real)
    best, arm = result["best"], result["arms"]["kl-f4"]
    assert (best["arm"], best["f"], best["regularizer"]) == ("kl-f4", 4, "kl")
    assert best["train_throughput_ratio"] == 3.0
    assert best["sample_throughput_ratio_interval"] == [2.7, 3.3]
    distances = {
        name: [one["kernel_distance"] for one in arm["budgets"]] for name, arm in result["arms"].items()
    }
    assert best["distance_ratio"] == pytest.approx(distances["pixels"][1] / distances["kl-f4"][1], rel=0.01)
    # 500 s of training and 60 pictures at 10 a second: of 1200 s 694 are left, enough for 300.
    assert arm["stage1_seconds"] == 506
    assert arm["seconds_beside_stage1"] == 300
    assert best["distance_ratio_with_stage1"] == pytest.approx(
        distances["pixels"][1] / distances["kl-f4"][0], rel=0.01
    )
    assert best["train_images_ratio_with_stage1"] == pytest.approx(3 * 694 / 1200, abs=1e-3)
    assert result["arms"]["pixels"]["distance_ratio"] == 1
    assert [one["seconds_with_stage1"] for one in arm["budgets"]] == [806, 1706]
    left, right = panels(result)
    assert [curve.dashed for curve in left.curves] == [False, False, True]
    assert right.curves[1].x == [806, 1706]
    json.dumps(result, allow_nan=False)
    said = lines({**result, "machine": {"processor": "x"}, "command": ["launch.py"], "date": "today"})
    rows = [line for line in said if line.startswith("| kl-f4")]
    assert len(rows) == 3  # in the table, beside the paper's, and in that of what else is to be known
    last = arm["budgets"][-1]
    assert rows[2] == (f"| kl-f4 | 0.001 | 20.0 dB | {last['precision']:.0%}, {last['recall']:.0%} | 1.74 |")
    tables = "\n".join(said).split("\n\n")
    for table in (one.splitlines() for one in tables if one.startswith("|")):
        assert len({row.count("|") for row in table}) == 1


@pytest.mark.slow
def test_a_longer_training_goes_on_from_a_shorter_one_and_ends_like_a_whole_one(
    pictures, tiny_model_folder, tmp_path
):
    tried = experiment("--size", "tiny", "--resolution", 32, data=pictures, model=tiny_model_folder)
    arm = Arm("kl-f4", 4, "kl")

    def run(steps, folder):
        config = tried.diffusion_config(arm, tiny_model_folder, 1e-3, steps)
        train(DiffusionStage, config, folder)

    def weights(folder):
        return {file.name: file.read_bytes() for file in (folder / "checkpoints/step-5").iterdir()}

    run(2, tmp_path / "short")
    go_on_from(tmp_path / "short", tmp_path / "long")
    run(5, tmp_path / "long")
    run(5, tmp_path / "whole")
    assert weights(tmp_path / "long") == weights(tmp_path / "whole")
    assert loss_of(tmp_path / "long") == loss_of(tmp_path / "whole")
    steps = [json.loads(line)["step"] for line in (tmp_path / "long/metrics.jsonl").read_text().splitlines()]
    assert min(steps) > 2  # the first two were not done again
    go_on_from(tmp_path / "whole", tmp_path / "long")  # which is begun, and stays as it is
    assert weights(tmp_path / "long") == weights(tmp_path / "whole")


@pytest.mark.slow
def test_the_command_compares_latents_with_pixels_and_finds_what_is_done(
    pictures, tiny_model_folder, tmp_path, capsys, monkeypatch
):
    page, output = tmp_path / f"{NAME}.md", tmp_path / "reports"
    page.write_text(f"before\n<!-- measured {NAME} -->\nnot run\n<!-- /measured {NAME} -->\nafter\n")
    more = ["--first-stages", "pixels,vq-f4", "--size", "tiny", "--resolution", 32, "--rounds", 1]
    more += ["--budgets", "1,2", "--stage1-seconds", 1, "--trials", 1, "--trial-seconds", 1]
    more += ["--batch-size", 4, "--count", 20, "--steps", 2, "--json", "--output", output]
    args = parse(words(*more, data=pictures, model=tiny_model_folder))
    args.dry_run = True
    assert command.main(args) == 0
    assert "hours of a free core" in capsys.readouterr().out
    assert not output.exists()
    assert not list((tmp_path / "runs").glob("*/*/config.toml"))

    args.dry_run = False
    assert command.main(args) == 0
    result = json.loads(capsys.readouterr().out)
    assert result == json.loads((output / f"{NAME}.json").read_text())
    assert result["best"]["arm"] == "vq-f4"
    for name in ("train_throughput_ratio", "sample_throughput_ratio", "distance_ratio"):
        low, high = result["best"][f"{name}_interval"]
        assert low <= result["best"][name] <= high
    for arm in result["arms"].values():
        assert [one["seconds"] for one in arm["budgets"]] == [1, 2]
        assert [one["pictures"] for one in arm["budgets"]] == [20, 20]
    said = page.read_text()
    assert said.startswith("before\n")
    assert said.endswith("after\n")
    assert "not run" not in said
    assert "| vq-f4 | 4x8x8 |" in said
    assert f"(reports/{NAME}.svg)" in said
    assert (output / f"{NAME}.svg").exists()
    assert (output / f"{NAME}.png").exists()

    before = {file: file.stat().st_mtime_ns for file in files(tmp_path / "runs")}
    assert command.main(args) == 0
    assert {file: file.stat().st_mtime_ns for file in files(tmp_path / "runs")} == before
    assert json.loads(capsys.readouterr().out) == result


def files(folder: Path):
    return [file for file in folder.rglob("*") if file.is_file() and file.suffix not in (".lock", ".sqlite")]


def test_every_arm_has_a_name():
    assert arm_of("vq-f16", "small") == Arm("vq-f16", 16, "vq")
    assert arm_of("pixels", "tiny") == Arm("pixels", 1, None)
