"""`launch.py generate` in several processes: a list is shared out, each picture drawn exactly once."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.commands import ROOT, Generate

WORDS = [f"a {colour} {thing}" for thing in ("cat", "dog", "apple") for colour in ("red", "green", "blue")]


def one_of_two(process: int, model: Path, *words: str | Path) -> subprocess.Popen[str]:
    """A process as `accelerate launch --num_processes 2` starts it."""
    return subprocess.Popen(
        [sys.executable, ROOT / "launch.py", "generate", *words, "--model", model, "--no-setup"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ
        | {"OMP_NUM_THREADS": "1", "RANK": str(process), "LOCAL_RANK": str(process), "WORLD_SIZE": "2"},
    )


def names_and_bytes(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.slow
def test_two_processes_draw_what_one_would_and_go_on_where_they_were_stopped(
    tiny_model_folder: Path, tmp_path: Path, generate: Generate, monkeypatch: pytest.MonkeyPatch
) -> None:
    prompts, out = tmp_path / "prompts.txt", tmp_path / "out"
    prompts.write_text("\n".join(WORDS) + "\n\n")
    # One at a time: what is left of a line by the stop is drawn alone, and a batch rounds otherwise.
    words = ["--prompts-file", prompts, "--seed", "7", "--count", "2", "--batch-size", "1", "--output-dir"]
    first, second = (one_of_two(process, tiny_model_folder, *words, out) for process in range(2))
    assert first.stdout is not None
    drawn = [first.stdout.readline().strip()]
    first.send_signal(signal.SIGTERM)
    ends = [process.communicate(timeout=300) for process in (first, second)]
    assert second.returncode == 0, ends[1][1]
    drawn += [line for printed, _ in ends for line in printed.splitlines()]
    # It may have been stopped between a picture and the line that tells of it.
    untold = {str(path) for path in out.glob("*.png")} - set(drawn)
    assert len(untold) <= 1
    drawn += untold

    monkeypatch.setenv("WORLD_SIZE", "2")
    for process in range(2):
        monkeypatch.setenv("RANK", str(process))
        drawn += generate(*words, out)
    assert len(drawn) == len(set(drawn)) == 2 * len(WORDS)
    monkeypatch.delenv("RANK")
    monkeypatch.delenv("WORLD_SIZE")
    generate(*words, tmp_path / "alone")
    assert names_and_bytes(out) == names_and_bytes(tmp_path / "alone")


@pytest.mark.slow
@pytest.mark.parametrize("processes", [2, 4])
def test_each_line_belongs_to_one_process_whatever_is_there_already(
    processes: int, tmp_path: Path, generate: Generate, monkeypatch: pytest.MonkeyPatch
) -> None:
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("\n\n".join(WORDS))
    monkeypatch.setenv("WORLD_SIZE", str(processes))
    shares = []
    for process in range(processes):
        monkeypatch.setenv("RANK", str(process))
        shares.append(generate("--prompts-file", prompts, "--steps", "1", "--output-dir", tmp_path / "out"))
    drawn = [path for share in shares for path in share]
    assert len(drawn) == len(set(drawn)) == len(WORDS)
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


@pytest.mark.parametrize(
    ("variables", "word"),
    [({"RANK": "0", "WORLD_SIZE": "2"}, "--prompts-file"), ({"RANK": "2", "WORLD_SIZE": "2"}, "RANK=2"),
     ({"RANK": "first", "WORLD_SIZE": "2"}, "RANK=first")],
)  # fmt: skip
def test_processes_that_cannot_share_are_refused(
    variables: dict[str, str], word: str, generate: Generate, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    (said,) = generate("a red apple", "--output-dir", tmp_path, expect=2)
    assert word in said
    assert list(tmp_path.iterdir()) == []
