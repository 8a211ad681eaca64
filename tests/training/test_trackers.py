import json
import mmap
import os
import sqlite3
import subprocess
import sys
from argparse import Namespace
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from models.errors import ConfigError
from training import autoencoder as stage1
from training.trackers import check_tracker, memory_bytes

ROOT = Path(__file__).resolve().parents[2]


def words(folder, tracker, steps=4):
    return [
        f"data.path={folder}",
        f"training.tracker={tracker}",
        f"training.steps={steps}",
        "training.batch_size=4",
        "training.log_every_steps=2",
        "checkpoints.every_steps=2",
    ]


def logged(run_folder):
    return [json.loads(line) for line in (run_folder / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.slow
def test_tensorboard_gets_the_numbers_of_metrics_jsonl(picture_folder, tmp_path) -> None:
    args = {"config": "tiny-autoencoder", "set": words(picture_folder, "tensorboard"), "run": tmp_path / "r"}
    stage1.main(Namespace(**args, dry_run=False))
    events = EventAccumulator(str(tmp_path / "r/tensorboard")).Reload()
    lines = logged(tmp_path / "r")
    names = {name for line in lines for name in line} - {"step"}
    assert names <= set(events.Tags()["scalars"])
    for name in names:
        written = {event.step: event.value for event in events.Scalars(name)}
        expected = {line["step"]: line[name] for line in lines if name in line}
        assert written == pytest.approx(expected, rel=1e-6)


@pytest.mark.slow
def test_trackio_gets_the_numbers_of_metrics_jsonl(picture_folder, tmp_path) -> None:
    command = [sys.executable, "launch.py", "train", "autoencoder", "--config", "tiny-autoencoder"]
    command += ["--run", str(tmp_path / "r"), "--no-setup"]
    command += [word for one in words(picture_folder, "trackio") for word in ("--set", one)]
    # In a process of its own: it reads where to write when it is imported, and leaves threads behind.
    subprocess.run(command, cwd=ROOT, env=os.environ | {"TRACKIO_DIR": str(tmp_path / "trackio")}, check=True)
    with sqlite3.connect(tmp_path / "trackio/latent-studio.db") as database:
        rows = database.execute("select run_name, step, metrics from metrics").fetchall()
    assert {name for name, *_ in rows} == {"r"}
    lines = logged(tmp_path / "r")
    assert len(rows) == len(lines)
    assert {step: values["loss"] for _, step, text in rows if "loss" in (values := json.loads(text))} == {
        line["step"]: line["loss"] for line in lines if "loss" in line
    }


def test_each_line_tells_rate_epoch_and_memory(picture_folder, tmp_path) -> None:
    values = [*words(picture_folder, "", steps=6), "optimizer.warmup_steps=4", "optimizer.learning_rate=1e-3"]
    args = {"config": "tiny-autoencoder", "set": values, "run": tmp_path / "r"}
    stage1.main(Namespace(**args, dry_run=False))
    lines = [line for line in logged(tmp_path / "r") if "loss" in line]
    assert [line["learning_rate"] for line in lines[:2]] == pytest.approx([5e-4, 1e-3])
    pictures = 11  # of twelve, one is held out
    assert [line["epoch"] for line in lines] == pytest.approx([8 / pictures, 16 / pictures, 24 / pictures])
    assert all(0 < line["memory_bytes"] < line["memory_peak_bytes"] for line in lines)


def test_memory_counts_what_is_allocated() -> None:
    before = memory_bytes()["memory_bytes"]
    # Not from malloc, which may hand out again what an earlier test freed.
    with mmap.mmap(-1, 50_000_000, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as block:
        block.write(bytes([1]) * len(block))
        assert 45e6 < memory_bytes()["memory_bytes"] - before < 120e6  # and the bytes written from


def test_a_tracker_that_is_not_installed_is_refused_with_the_line_to_type() -> None:
    check_tracker("")
    check_tracker("tensorboard")
    with pytest.raises(ConfigError, match="-m pip install no_such_tracker"):
        check_tracker("no_such_tracker")
