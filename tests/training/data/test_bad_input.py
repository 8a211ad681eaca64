"""Files that other projects keep because they once broke a reader of pictures."""

import json
import os
import random
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from tests.corpora import picture_files
from training.data.index import Index

ROOT = Path(__file__).parents[3]
SAMPLED = [
    pytest.param(150, id="sampled", marks=pytest.mark.slow),
    pytest.param(None, id="whole", marks=pytest.mark.exhaustive),
]
MAX_SECONDS_EACH = 20  # of the processor; of waiting, on a machine that does other things, six times that
MAX_BYTES = 1.5e9  # a picture of the most pixels that are taken, in the copies that turning it makes

# The peak is VmHWM's: getrusage's has that of the process which started this one in it.
# Says the name first: after a crash of the process itself, the last one is to blame.
DECODE = """
import faulthandler, signal, sys
from pathlib import Path
from models.errors import DataError
from pipelines.pictures import MAX_JPEG_PIXELS, open_picture
from training.data.images import to_tensor

faulthandler.register(signal.SIGPROF, chain=True)
for line in sys.stdin:
    name = line.rstrip("\\n")
    print(name, end="\\t", flush=True)
    signal.setitimer(signal.ITIMER_PROF, float(sys.argv[1]))
    faulthandler.dump_traceback_later(6 * float(sys.argv[1]), exit=True)
    try:
        image = open_picture(Path(name))
        assert image.mode == "RGB" and 16 <= min(image.size) and image.width * image.height <= MAX_JPEG_PIXELS
        assert to_tensor(image, (32, 32)).abs().max() <= 1
        print("usable", flush=True)
    except DataError as error:
        print("refused", flush=True)
print("peak", 1024 * int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]), sep="\\t")
"""
TRAIN = """
import json, sys
from argparse import Namespace
from pathlib import Path
from training import diffusion
words, run = json.loads(sys.argv[1])
diffusion.main(Namespace(config="tiny-diffusion", set=words, run=Path(run), dry_run=False))
print("peak", 1024 * int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]), sep="\\t")
"""


def chosen(count):
    files = picture_files()
    assert len(files) > 1400
    if count is None:
        return files
    return random.Random(0).sample(files, count)  # the same at all times


def run(script, argument, work, **options):
    environment = os.environ | {
        "PYTHONPATH": str(ROOT),
        "OMP_NUM_THREADS": "1",
        "LATENT_STUDIO_RUNS": str(work / "runs"),
    }
    command = [sys.executable, "-X", "faulthandler", "-c", script, argument]
    return subprocess.run(
        command, env=environment, capture_output=True, text=True, errors="replace", check=False, **options
    )


def peak_bytes(printed):
    return int(printed.rpartition("peak\t")[2])


@pytest.mark.parametrize("count", SAMPLED)
def test_every_file_is_decoded_or_refused_without_a_crash_a_hang_or_much_memory(count, tmp_path):
    files = chosen(count)
    done = run(DECODE, str(MAX_SECONDS_EACH), tmp_path, input="\n".join(map(str, files)))
    assert done.returncode == 0, f"at {done.stdout.splitlines()[-1]}: {done.stderr[-3000:]}"
    verdicts = Counter(line.partition("\t")[2] for line in done.stdout.splitlines()[:-1])
    assert set(verdicts) == {"usable", "refused"}
    assert sum(verdicts.values()) == len(files)
    print(verdicts, f"peak {peak_bytes(done.stdout) / 1e6:.0f} MB")
    assert peak_bytes(done.stdout) < MAX_BYTES


@pytest.mark.parametrize("count", SAMPLED)
def test_a_training_goes_on_and_names_each_bad_file_once(count, tmp_path, tiny_model_folder):
    files = chosen(count)
    for number, file in enumerate(files):  # names occur twice in different folders
        (tmp_path / f"data/{number:04}").mkdir(parents=True)
        shutil.copy(file, tmp_path / f"data/{number:04}/{file.name}")
    parts = {"model.autoencoder": tiny_model_folder, "model.text_encoder": tiny_model_folder}
    settings = {"data.path": tmp_path / "data", **parts, "training.steps": 4, "training.batch_size": 4}
    words = [f"{key}={value}" for key, value in settings.items()]
    done = run(TRAIN, json.dumps([words, str(tmp_path / "run")]), tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "done: 4 steps" in done.stdout
    named = Counter(
        line.removeprefix("skipped ").partition(": ")[0]
        for line in done.stderr.replace("\r", "\n").splitlines()
        if line.startswith("skipped ")
    )
    assert set(named.values()) == {1}
    index = Index(next((tmp_path / "runs/cache").glob("index-*.sqlite")))
    assert len(named) == index.skipped_count
    met = [*named, *(index.entry(i).file for i in range(len(index)))]
    assert {Path(name).relative_to(tmp_path / "data").parts[0] for name in met} == set(
        os.listdir(tmp_path / "data")
    )
    print(f"{len(named)} of {len(files)} files skipped, peak {peak_bytes(done.stdout) / 1e6:.0f} MB")
    assert peak_bytes(done.stdout) < MAX_BYTES
