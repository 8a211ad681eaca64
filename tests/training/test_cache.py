import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from models.folder import load_autoencoder
from models.text_encoder import TextEncoder
from tests.training.training_data import data, picture, png, shard
from training import cache
from training.cache import LiveLatents, LiveTexts, cache_latents, cache_texts, digest_of
from training.data.pictures import load_pictures
from training.rows import Rows, on_disk


def make_pictures(folder, count, **keys):
    colours = np.random.default_rng(0).integers(0, 256, (count, 3)).tolist()
    samples = [
        {
            "__key__": f"{number:05}",
            "png": png((32 + 16 * (number % 3), 32), tuple(colour), left="black"),
            "txt": f"{number % 5}",
        }
        for number, colour in enumerate(colours)
    ]
    shard(folder / "all.tar", samples)
    return load_pictures(data(folder, **keys))[0]


def no_flips(indices):
    return torch.zeros(len(indices), dtype=torch.bool)


def test_rows_that_were_not_committed_were_never_written(tmp_path):
    kinds = {"a": ("<f4", (2,)), "b": ("<i8", ())}
    first = Rows(tmp_path / "x", kinds)
    first.append("a", np.ones((3, 2)))
    first.commit()
    first.append("a", np.full((2, 2), 7.0))
    first.append("b", np.arange(4))
    second = Rows(tmp_path / "x", kinds)  # as after a kill
    assert second.counts == {"a": 3, "b": 0}
    assert second.array("b").shape == (0,)
    second.append("a", np.full((1, 2), 5.0))
    second.commit()
    assert Rows(tmp_path / "x", kinds).array("a").tolist() == [[1, 1]] * 3 + [[5, 5]]
    assert (tmp_path / "x/a.bin").stat().st_size == 4 * 8


@pytest.mark.slow
@pytest.mark.parametrize("buckets", [1, 3])
def test_cached_latents_are_those_of_every_picture_and_of_its_mirror_image(
    tmp_path, tiny_model_folder, buckets
):
    pictures = make_pictures(tmp_path / "data", 30, buckets=buckets, bucket_multiple=8, flip=0.5)
    autoencoder = load_autoencoder(tiny_model_folder)
    kept = cache_latents(autoencoder, tiny_model_folder / "vae", pictures, True, tmp_path / "cache")
    live = LiveLatents(autoencoder, pictures)
    for bucket in np.unique(pictures.buckets):
        indices = np.flatnonzero(pictures.buckets == bucket)[::-1].tolist()
        flipped = torch.arange(len(indices)) % 2 == 0
        latents, shown = kept.read(indices, flipped)
        expected, _ = live.read(indices, flipped)
        assert shown == indices
        assert torch.allclose(latents, expected, atol=2e-3)  # half a unit in the last place of fp16 near 4
        assert not torch.allclose(latents, live.read(indices, ~flipped)[0], atol=2e-3)
        assert isinstance(kept.arrays[bucket], np.memmap)


@pytest.mark.slow
def test_cached_words_are_those_of_the_encoder_and_each_is_kept_once(
    tmp_path, tiny_model_folder, monkeypatch
):
    monkeypatch.setattr(cache, "PART_CAPTIONS", 4)
    pictures = make_pictures(tmp_path / "data", 23)
    encoder = TextEncoder.from_folder(tiny_model_folder)
    kept = cache_texts(encoder, tiny_model_folder, pictures.index, tmp_path / "cache")
    assert len(kept.ends) == 6  # five captions and the empty one
    live = LiveTexts(encoder, pictures.index)
    numbers = [3, 0, 5, 3]
    states, expected = kept.states(numbers), live.states(numbers)
    assert torch.equal(states.mask, expected.mask)
    assert torch.allclose(states.hidden, expected.hidden, atol=5e-3)
    assert torch.allclose(states.pooled, expected.pooled, atol=5e-3)


@pytest.mark.slow
def test_a_picture_lost_before_it_was_encoded_is_replaced_with_its_captions(tmp_path, tiny_model_folder):
    for number in range(6):
        picture(tmp_path / f"data/{number}.png", colour=(40 * number, 0, 0))
    pictures = load_pictures(data(tmp_path / "data"))[0]
    (tmp_path / "data/3.png").write_bytes(b"")
    lost = next(i for i in range(len(pictures)) if pictures.entry(i).file.endswith("3.png"))
    autoencoder = load_autoencoder(tiny_model_folder)
    for _ in range(2):  # as computed, and as found on the disk
        kept = cache_latents(autoencoder, tiny_model_folder / "vae", pictures, False, tmp_path / "cache")
        latents, shown = kept.read([lost], no_flips([lost]))
        assert shown != [lost]
        assert torch.equal(latents, kept.read(shown, no_flips(shown))[0])


@pytest.mark.slow
def test_the_key_is_the_content_of_all_that_decides_the_latents(tmp_path, tiny_model_folder):
    autoencoder = load_autoencoder(tiny_model_folder)
    other = tmp_path / "vae"
    other.mkdir()
    for file in (tiny_model_folder / "vae").iterdir():
        (other / file.name).write_bytes(file.read_bytes())
    assert digest_of(other) == digest_of(tiny_model_folder / "vae")
    config = json.loads((other / "config.json").read_text())
    (other / "config.json").write_text(json.dumps(config | {"scaling_factor": 2.0}))

    def kept(flip=False, source=tiny_model_folder / "vae", **keys):
        pictures = load_pictures(data(tmp_path / "data", **keys))[0]
        cache_latents(autoencoder, source, pictures, flip, tmp_path / "cache")
        return len(list((tmp_path / "cache").glob("latents-*/")))

    make_pictures(tmp_path / "data", 12)
    assert kept() == kept() == 1
    settings = [{"resolution": 16}, {"buckets": 3, "bucket_multiple": 8}, {"background": "black"}]
    counts = [kept(**one) for one in settings] + [kept(flip=True), kept(source=other)]
    make_pictures(tmp_path / "data", 13)
    assert [*counts, kept()] == [2, 3, 4, 5, 6, 7]


BUILD = """
import sys, time
from pathlib import Path
import torch
from models.folder import load_autoencoder
from training import cache
from training.config import Data
from training.data.pictures import Pictures, load_pictures

model, folder, target, pause, stop = sys.argv[1:]
cache.ENCODED_PICTURES, cache.PART_CHUNKS = 4, 2
torch.set_num_threads(1)
read, begun = Pictures.read, 0
def slow(self, indices):
    global begun
    time.sleep(float(pause))
    print("encoding", *indices, flush=True)
    begun += len(indices)
    while begun > int(stop):  # until it is killed
        time.sleep(1)
    return read(self, indices)
Pictures.read = slow
pictures = load_pictures(Data(path=folder, resolution=32))[0]
print("ready", flush=True)
cache.cache_latents(load_autoencoder(Path(model)), Path(model) / "vae", pictures, False, Path(target))
"""


def build(model, folder, target, pause=0.0, stop=10**6, code=BUILD):
    """Start a caching job that pauses before each chunk, and stands still in the one after `stop` things."""
    return subprocess.Popen(
        [sys.executable, "-c", code, str(model), str(folder), str(target), str(pause), str(stop)],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2]), "OMP_NUM_THREADS": "1"},
    )


def encoded(lines):
    return [int(word) for line in lines if line.startswith("encoding") for word in line.split()[1:]]


@pytest.mark.slow
def test_a_killed_caching_job_goes_on_where_it_stopped(tmp_path, tiny_model_folder):
    pictures = make_pictures(tmp_path / "data", 50)
    assert len(pictures) == 45
    process = build(tiny_model_folder, tmp_path / "data", tmp_path / "cache", stop=28)
    seen = []
    assert process.stdout is not None
    for line in process.stdout:
        seen.append(line)
        if len(encoded(seen)) > 28:  # three parts of eight are kept, a half one is not
            os.kill(process.pid, signal.SIGKILL)
            break
    process.wait()
    assert process.returncode == -signal.SIGKILL
    (folder,) = (tmp_path / "cache").glob("latents-*/")
    before = json.loads((folder / "progress.json").read_text())["rows"]["0"]
    assert before == 24
    again, _ = build(tiny_model_folder, tmp_path / "data", tmp_path / "cache").communicate()
    assert encoded(again.splitlines()) == list(range(before, 45))
    whole = cache_latents(
        load_autoencoder(tiny_model_folder), tiny_model_folder / "vae", pictures, False, tmp_path / "new"
    )
    kept = cache_latents(
        load_autoencoder(tiny_model_folder), tiny_model_folder / "vae", pictures, False, tmp_path / "cache"
    )
    assert np.allclose(whole.arrays[0], kept.arrays[0], atol=2e-3)


BUILD_TEXTS = """
import sys, time
from pathlib import Path
import torch
from models.text_encoder import TextEncoder
from training import cache
from training.config import Data
from training.data.pictures import load_pictures

model, folder, target, pause, stop = sys.argv[1:]
cache.PART_CAPTIONS = cache.ENCODED_CAPTIONS = 4
torch.set_num_threads(1)
encode, begun = TextEncoder.encode, 0
def slow(self, prompts):
    global begun
    time.sleep(float(pause))
    print("encoding", *(prompt or "nothing" for prompt in prompts), flush=True)
    begun += len(prompts)
    while begun > int(stop):  # until it is killed
        time.sleep(1)
    return encode(self, prompts)
TextEncoder.encode = slow
index = load_pictures(Data(path=folder, resolution=32))[0].index
cache.cache_texts(TextEncoder.from_folder(Path(model)), Path(model), index, Path(target))
"""


@pytest.mark.slow
def test_a_killed_job_of_captions_goes_on_where_it_stopped(tmp_path, tiny_model_folder):
    samples = [
        {"__key__": f"{number:05}", "png": png((32, 32), (number, 0, 0)), "txt": f"{number}"}
        for number in range(30)
    ]
    shard(tmp_path / "data/all.tar", samples)
    index = load_pictures(data(tmp_path / "data"))[0].index
    captions = [index.caption(number) or "nothing" for number in range(index.caption_count)]
    places = (tiny_model_folder, tmp_path / "data", tmp_path / "cache")
    process = build(*places, stop=12, code=BUILD_TEXTS)
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("encoding") and set(line.split()[1:]) & set(captions[12:16]):
            os.kill(process.pid, signal.SIGKILL)  # three parts of four are kept
            break
    process.wait()
    assert process.returncode == -signal.SIGKILL
    (folder,) = (tmp_path / "cache").glob("text-*/")
    assert json.loads((folder / "progress.json").read_text())["rows"]["ends"] == 12
    again, _ = build(*places, code=BUILD_TEXTS).communicate()
    encoded_again = [word for line in again.splitlines() for word in line.split()[1:]]
    assert sorted(encoded_again) == sorted(captions[12:])
    encoder = TextEncoder.from_folder(tiny_model_folder)
    kept, whole = (
        cache_texts(encoder, tiny_model_folder, index, tmp_path / name) for name in ("cache", "new")
    )
    numbers = list(range(len(captions)))
    one, other = kept.states(numbers), whole.states(numbers)
    assert torch.equal(one.mask, other.mask)
    assert torch.allclose(one.hidden, other.hidden, atol=5e-3)


@pytest.mark.slow
def test_two_processes_that_build_at_once_encode_every_picture_once(tmp_path, tiny_model_folder):
    make_pictures(tmp_path / "data", 50)
    both = [build(tiny_model_folder, tmp_path / "data", tmp_path / "cache", 0.02) for _ in range(2)]
    printed = [process.communicate()[0] for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert sorted(encoded("".join(printed).splitlines())) == list(range(45))
    assert len(list((tmp_path / "cache").glob("latents-*/"))) == 1


def test_an_array_laid_on_the_disk_stays_what_it_was():
    array = np.arange(1000, dtype=np.int32).reshape(10, 100)
    laid = on_disk(array)
    assert isinstance(laid, np.memmap)
    assert np.array_equal(laid, array)
