import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.training.training_data import png, shard

COUNT = 400
TRAIN = """
import json, sys
from argparse import Namespace
from pathlib import Path
from training import diffusion

def anonymous_bytes():
    status = dict(line.split(":", 1) for line in open("/proc/self/status"))
    return 1024 * int(status["RssAnon"].split()[0])

class Watched(diffusion.DiffusionStage):
    seen = []
    def batch(self, step, positions):
        Watched.seen.append(anonymous_bytes())
        return super().batch(step, positions)

diffusion.DiffusionStage = Watched
words, run = json.loads(sys.argv[1])
diffusion.main(Namespace(config="tiny-diffusion", set=words, run=Path(run), dry_run=False))
print("anonymous bytes:", max(Watched.seen[-20:]))
"""


def anonymous_bytes(pictures: Path, model: Path, work: Path) -> int:
    """What a stage-2 run of 60 steps holds that is not a page of a file."""
    words = [f"data.path={pictures}", f"model.autoencoder={model}", f"model.text_encoder={model}"]
    words += ["training.steps=60", "training.batch_size=8", "data.flip=0.5"]
    environment = os.environ | {
        "PYTHONPATH": str(Path(__file__).parents[2]),
        "LATENT_STUDIO_RUNS": str(work),
        "OMP_NUM_THREADS": "1",
    }
    done = subprocess.run(
        [sys.executable, "-c", TRAIN, json.dumps([words, str(work / "run")])],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return int(done.stdout.rpartition("anonymous bytes:")[2])


@pytest.mark.exhaustive
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="Linux counts anonymous memory")
def test_the_memory_of_a_training_does_not_grow_with_its_dataset(tmp_path, tiny_model_folder):
    taken = {}
    for count in (COUNT, 20 * COUNT):
        samples = (
            {
                "__key__": f"{number:06}",
                "png": png((16, 16), (number % 256, number // 256 % 256, 0)),
                "txt": f"the picture numbered {number} in a long row of pictures",
            }
            for number in range(count)
        )
        shard(tmp_path / f"{count}/all.tar", samples)
        taken[count] = anonymous_bytes(tmp_path / str(count), tiny_model_folder, tmp_path / f"runs-{count}")
    growth = taken[20 * COUNT] - taken[COUNT]
    print(f"anonymous memory: {taken} bytes, growth {growth / 1e6:.2f} MB")
    assert growth < 3e6
