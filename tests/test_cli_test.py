"""`launch.py test`: which tests it picks, and the exit codes that scripts rely on."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from app.commands.test import cuda_works

ROOT = Path(__file__).resolve().parents[1]
MARKED = """
import time
import pytest

def test_plain(): pass

@pytest.mark.slow
def test_slow(): pass

@pytest.mark.exhaustive
def test_exhaustive(): pass

@pytest.mark.cuda
def test_cuda(): pass

@pytest.mark.slow
def test_fails(): assert False

@pytest.mark.slow
def test_waits():
    print("waiting", flush=True)
    time.sleep(60)
"""
pytestmark = pytest.mark.slow


@pytest.fixture
def marked(tmp_path: Path) -> Path:
    path = tmp_path / "test_marked.py"
    path.write_text(MARKED)
    return path


def run_tests(*words: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, ROOT / "launch.py", "test", "-p", "no:cacheprovider", "-q", *words],
        capture_output=True,
        text=True,
        check=False,
    )


def picked(*words: str | Path) -> set[str]:
    answer = run_tests("--collect-only", *words)
    assert answer.returncode == 0, answer.stdout
    return {line.partition("::test_")[2] for line in answer.stdout.splitlines() if "::" in line}


def test_lanes_pick_their_tests(marked: Path) -> None:
    cuda = {"cuda"} if cuda_works() else set()
    assert picked(marked) == {"plain"} | cuda
    assert picked("--exhaustive", marked) == {"plain", "slow", "exhaustive", "fails", "waits"} | cuda
    assert picked(marked, "-m", "not exhaustive and not cuda") == {"plain", "slow", "fails", "waits"}
    assert picked(marked, "-m", "cuda") == {"cuda"}


@pytest.mark.parametrize(
    ("words", "exit_code"),
    [
        ([], 0),
        (["-m", "slow", "-k", "fails"], 1),
        (["-k", "no_such_test"], 1),  # a run that tested nothing proves nothing
        (["--no-such-option"], 2),
    ],
    ids=["passed", "failed", "no test", "wrong words"],
)
def test_exit_codes_are_those_of_every_command(marked: Path, words: list[str], exit_code: int) -> None:
    assert run_tests(marked, *words).returncode == exit_code


@pytest.mark.parametrize(
    ("sent", "exit_code"), [(signal.SIGINT, 130), (signal.SIGTERM, -signal.SIGTERM)], ids=["Ctrl+C", "TERM"]
)
def test_interruptions_end_the_tests(marked: Path, sent: signal.Signals, exit_code: int) -> None:
    process = subprocess.Popen(
        [
            sys.executable,
            ROOT / "launch.py",
            "test",
            "-p",
            "no:cacheprovider",
            "-m",
            "slow",
            "-s",
            "-k",
            "waits",
            marked,
        ],
        stdout=subprocess.PIPE,
        text=True,
        # Where the tests run in the background of a script, Ctrl+C is ignored, and so it would be here.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    assert process.stdout is not None
    while "waiting" not in (line := process.stdout.readline()):
        assert line, "the tests ended early"
    process.send_signal(sent)
    process.communicate(timeout=60)
    assert process.returncode == exit_code  # a shell shows -15 as 143


@pytest.mark.slow
@pytest.mark.skipif(cuda_works(), reason="there is an NVIDIA GPU in this machine")
def test_plain_pytest_leaves_out_what_needs_a_gpu() -> None:
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "tests/pipelines/test_local_engine.py"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert "test_a_folder_is_enough_to_draw" in listed
    assert "test_a_gpu_draws" not in listed
