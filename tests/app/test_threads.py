"""How many threads a start chooses, and that a person's own choice stands."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.threads import choose_threads, set_threads, threads_of
from models.machine import usable_cores
from tests.newcomer import ROOT, run_code

CORES = st.integers(1, 256)
QUOTAS = st.none() | st.floats(0.01, 512)


@given(cores=CORES, quota=QUOTAS)
def test_threads_are_at_least_one_and_neither_more_than_cores_nor_more_than_the_quota_feeds(
    cores: int, quota: float | None
) -> None:
    chosen = choose_threads(cores, quota)
    assert 1 <= chosen.count <= cores
    if quota is not None:
        assert chosen.count < quota + 1
    assert ("container" in chosen.why) == (quota is not None and quota < cores)


@given(cores=CORES, quota=st.floats(0.01, 512), more=st.floats(0, 8))
def test_a_larger_quota_never_means_fewer_threads(cores: int, quota: float, more: float) -> None:
    assert choose_threads(cores, quota).count <= choose_threads(cores, quota + more).count


def test_what_a_person_set_stands_and_is_said() -> None:
    asked = {"OMP_NUM_THREADS": str(usable_cores() + 1)}
    set_threads(asked)
    assert asked == {"OMP_NUM_THREADS": str(usable_cores() + 1)}
    assert threads_of(asked).count == usable_cores() + 1
    assert "OMP_NUM_THREADS" in threads_of(asked).why
    chosen: dict[str, str] = {}
    set_threads(chosen)
    assert threads_of(chosen).why.startswith(("physical cores", "this container"))


COMMANDS = {
    "ui": "ui --model no/such",
    "generate": "generate cat --steps 1 --device cpu --model {model} --output-dir {folder}",
    "train": "train diffusion --config tiny-diffusion --set data.path=no/such",
    "evaluate": "evaluate diffusion --data no/such",
}


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_that_draws_or_trains_chooses_before_torch_is_there(
    command: str, tiny_model_folder: Path, tmp_path: Path
) -> None:
    words = COMMANDS[command].format(model=tiny_model_folder, folder=tmp_path).split()
    code = f"""
import os, sys
for name in ("OMP_NUM_THREADS", "OMP_WAIT_POLICY"):
    os.environ.pop(name, None)
class Watch:
    def find_spec(self, name, *_):
        if name == "torch":
            print("torch after", os.environ.get("OMP_NUM_THREADS"), os.environ.get("OMP_WAIT_POLICY"))
sys.meta_path.insert(0, Watch())
launch.main([*{words!r}, "--no-setup"])
print("ended with", os.environ["OMP_NUM_THREADS"], os.environ["OMP_WAIT_POLICY"])
"""
    answer = run_code(code, ROOT)
    lines = [line for line in answer.stdout.splitlines() if line.startswith(("torch after", "ended with"))]
    chosen: dict[str, str] = {}
    set_threads(chosen)
    assert {line.split(" ", 2)[2] for line in lines} == {f"{chosen['OMP_NUM_THREADS']} passive"}, (
        answer.stderr
    )
