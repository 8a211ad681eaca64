"""Model files that attack whoever opens them, in every place where somebody could put them."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.corpora import model_files
from tests.newcomer import ROOT

AS_MODEL = ("load_model", "--model", "the page's list of models")
# What is no picture has no settings, what lies beside the weights is not read, and some of it is plain zip.
PASSED_OVER = ("a picture with settings", "unet/model.ckpt of a model", "dataset.zip")


@pytest.mark.slow
def test_nothing_of_a_hostile_model_runs_and_each_is_answered_in_one_sentence(
    tiny_model_folder: Path, tmp_path: Path
) -> None:
    files = model_files()
    assert len(files) > 95
    places = {name: tmp_path / name for name in ("home", "here", "work", "tmp")}
    for place in places.values():
        place.mkdir()
    environment = os.environ | {
        "HOME": str(places["home"]), "TMPDIR": str(places["tmp"]), "PYTHONPATH": str(ROOT),
        "PYTHONDONTWRITEBYTECODE": "1", "OMP_NUM_THREADS": "1",
    }  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-m", "tests.hostile", tiny_model_folder, places["work"]],
        input="\n".join(map(str, files)), cwd=places["here"], env=environment, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    answers, events = map(json.loads, done.stdout.splitlines()[-2:])
    assert events == []
    assert list(places["here"].iterdir()) == []
    assert list(places["work"].iterdir()) == []
    assert not [path for path in places["home"].rglob("*") if ".cache" not in path.parts]
    assert {file for file, _, _ in answers} == {"all", *map(str, files)}
    assert "no usable picture" in answers[-1][2]
    for file, way, answer in answers:
        assert answer, (file, way)
        assert "\n" not in answer, (file, way, answer)
        assert len(answer) < 700, (file, way, answer)
        if Path(file).suffix in (".pkl", ".pt", ".h5", ".skops") and not way.startswith(PASSED_OVER):
            assert answer != "opened", (file, way)
        if Path(file).suffix in (".pkl", ".pt") and way in AS_MODEL:
            assert "can run code when" in answer, (file, way, answer)
            assert "safetensors" in answer, (file, way, answer)
