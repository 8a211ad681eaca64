import json
import os
import signal
import subprocess
import sys
import time

import pytest

from tests.training.processes import ROOT, finish, train, trained

pytestmark = pytest.mark.slow
ENDLESS = {
    "training.steps": 10**6, "training.batch_size": 4, "training.log_every_steps": 1,
    "checkpoints.every_steps": 0,  # the only one is that of the stop, however many steps went before it
}  # fmt: skip


def wait_for_steps(run, process):
    deadline = time.monotonic() + 300
    while not (run / "metrics.jsonl").exists():
        assert time.monotonic() < deadline
        assert process.poll() is None, process.communicate()
        time.sleep(0.1)


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["int", "term"]
)
def test_a_stopped_training_saves_the_step_at_hand_and_goes_on_from_it(
    picture_folder, tmp_path, number, code
):
    run = tmp_path / "run"
    (process,) = train("autoencoder", run, **{"data.path": picture_folder, **ENDLESS})
    wait_for_steps(run, process)
    process.send_signal(number)
    codes, ((out, _),) = finish([process])
    assert codes == [code]
    (newest,) = run.glob("checkpoints/step-*/manifest.json")
    step = json.loads((newest.parent / "state.json").read_text())["step"]
    assert f"stopped after step {step}; the same command goes on from there" in out
    (process,) = train("autoencoder", run, **{"data.path": picture_folder, **ENDLESS})
    time.sleep(1)
    while f'"step": {step + 1},' not in (run / "metrics.jsonl").read_text():
        assert process.poll() is None, process.communicate()
        time.sleep(0.1)
    process.send_signal(number)
    codes, ((out, _),) = finish([process])
    assert codes == [code]
    assert f"resumed from step {step}" in out


def test_two_trainings_forked_from_one_process_write_what_started_ones_write(picture_folder, tmp_path):
    """The tests' own short cut changes nothing."""
    settings = {"data.path": picture_folder, "training.steps": 2, "training.batch_size": 4}
    trained("autoencoder", tmp_path / "forked", **settings)
    words = [word for key, value in settings.items() for word in ("--set", f"{key}={value}")]
    command = [sys.executable, "launch.py", "train", "autoencoder", "--config", "tiny-autoencoder"]
    alike = os.environ | {"OMP_NUM_THREADS": "1"}
    subprocess.run([*command, "--run", str(tmp_path / "started"), *words], cwd=ROOT, env=alike, check=True)
    for file in (tmp_path / "started").glob("checkpoints/step-2/*"):
        assert file.read_bytes() == (tmp_path / "forked/checkpoints/step-2" / file.name).read_bytes()
