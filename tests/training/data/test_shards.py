import tarfile
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import pytest
import torch
import webdataset

from models.errors import DataError, StudioError
from tests.training.training_data import data, found, index_of, picture, png, shard
from training.data import shards
from training.data.index import open_index
from training.data.pictures import load_pictures
from training.data.shards import find_shards, read_member

SAMPLES = [
    {"__key__": "dog/0001", "png": png(colour="red"), "txt": "one\n\ntwo"},
    {"__key__": "dog/0002", "JPG": png(colour="lime"), "json": {"caption": "from json", "split": "train"}},
    {"__key__": "cat/0003", "left.png": png(colour="blue"), "json": {"label": 7}, "txt": "three"},
    {"__key__": "0004", "png": png(colour="white"), "cls": 3},
    {"__key__": "0005", "txt": "words alone"},
    {"__key__": "0006", "jpg": b"no picture", "txt": "bad"},
    {"__key__": "0007", "png": png(), "jpg": png()},
]


class Ranges(SimpleHTTPRequestHandler):
    """A file server that answers range requests, as object stores and real web servers do."""

    ranged = True
    failures: ClassVar[list[int]] = []

    def do_GET(self):
        if self.failures:
            self.send_error(self.failures.pop())
            return
        wanted = self.headers.get("Range") if self.ranged else None
        if wanted is None:
            super().do_GET()
            return
        content = Path(self.translate_path(self.path)).read_bytes()
        first, last = wanted.removeprefix("bytes=").split("-")
        part = content[int(first) : int(last) + 1]
        self.send_response(206)
        self.send_header("Content-Range", f"bytes {first}-{int(first) + len(part) - 1}/{len(content)}")
        self.send_header("Content-Length", str(len(part)))
        self.end_headers()
        self.wfile.write(part)

    def log_message(self, *_):
        pass


@pytest.fixture
def serve(tmp_path):
    servers = []

    def start(**attributes):
        kind = type("Server", (Ranges,), attributes)
        server = ThreadingHTTPServer(("127.0.0.1", 0), partial(kind, directory=str(tmp_path)))
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        return f"http://127.0.0.1:{server.server_port}"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def test_samples_have_captions_labels_and_splits(tmp_path):
    entries, skipped = found(shard(tmp_path / "a.tar", SAMPLES))
    assert [(one.captions, one.label, one.split) for one in entries] == [
        (("one", "two"), "dog", ""),
        (("from json",), "dog", "train"),
        (("three",), "7", ""),
        (("",), "3", ""),
        (("bad",), "", ""),
        (("",), "", ""),
    ]
    assert {one.name.rpartition("/")[2]: one.reason for one in skipped} == {
        "0005": "holds no picture",
        "0007.png": "a second picture of one sample",
    }


def test_any_member_is_read_as_webdataset_itself_reads_it(tmp_path):
    path = shard(tmp_path / "a.tar", SAMPLES)
    theirs = {}
    for sample in webdataset.WebDataset(str(path), shardshuffle=False):
        theirs |= {f"{sample['__key__']}.{kind}": sample[kind] for kind in sample if kind[:2] != "__"}
    entries, _ = found(path)
    for entry in reversed(entries):
        assert read_member(entry) == theirs[entry.member.replace(".JPG", ".jpg")]


def test_the_same_pictures_come_from_a_folder_a_pattern_and_a_web_server(tmp_path, serve):
    (tmp_path / "shards").mkdir()
    for number in range(3):
        samples = [
            {"__key__": f"{number}-{i}", "png": png(colour=(40 * number, 20 * i, 0)), "txt": f"{number} {i}"}
            for i in range(5)
        ]
        shard(tmp_path / f"shards/part-{number:03}.tar", samples)
    web = serve()
    read = {}
    for path in (
        str(tmp_path / "shards"),
        str(tmp_path / "shards/part-{000..002}.tar"),
        str(tmp_path / "shards/*.tar"),
        f"{web}/shards/part-{{000..002}}.tar",
    ):
        train, held_out, skipped = load_pictures(data(path))
        assert (len(train), len(held_out), skipped) == (14, 1, 0)
        captions = [train.entry(i).captions for i in range(14)]
        read[path] = captions, train.batch(range(14))
    first, *others = read.values()
    for captions, pixels in others:
        assert captions == first[0]
        assert torch.equal(pixels, first[1])


def test_a_server_that_fails_at_times_is_asked_again(tmp_path, serve, monkeypatch):
    monkeypatch.setattr(shards.time, "sleep", lambda _seconds: None)
    shard(tmp_path / "a.tar", SAMPLES[:1])
    failures = []
    url = f"{serve(failures=failures)}/a.tar"
    (entry,), _ = found(url)
    whole = read_member(entry)
    failures += [503] * 3
    assert read_member(entry) == whole
    failures += [503] * 4
    # What can be had tomorrow is no bad picture: the training ends, and goes on from there.
    with pytest.raises(StudioError, match=r"503.*run the same command again") as told:
        read_member(entry)
    assert not isinstance(told.value, DataError)


def test_a_server_without_ranges_is_said_and_not_believed(tmp_path, serve):
    shard(tmp_path / "a.tar", SAMPLES[:2])
    told = []
    with pytest.raises(DataError, match="no usable picture"):
        open_index(f"{serve(ranged=False)}/a.tar", tmp_path / "cache", told.append)
    assert [one.reason.partition(":")[2] for one in told] == [
        " the shard is cut short, or its server knows no ranges"
    ] * 2


def test_a_shard_that_is_cut_short_or_no_tar_is_named_and_the_others_are_used(tmp_path):
    (tmp_path / "shards").mkdir()
    good = shard(tmp_path / "shards/a.tar", SAMPLES[:1])
    (tmp_path / "shards/b.tar").write_bytes(good.read_bytes()[:700])
    (tmp_path / "shards/c.tar").write_text("no tar at all")
    with tarfile.open(tmp_path / "shards/d.tar", "w:gz") as tar:
        tar.add(good, "x.png")
    lying = tarfile.TarInfo("huge.png")
    lying.size = 2**40
    (tmp_path / "shards/e.tar").write_bytes(lying.tobuf() + bytes(1024))
    index, told = index_of(tmp_path / "shards", tmp_path / "cache")
    assert len(index) == 1
    assert {one.name.removeprefix(f"{tmp_path}/shards/").partition(".")[0] for one in told} == set("bcde")


def test_shards_lie_beside_pictures_and_keep_the_folders_split(tmp_path):
    picture(tmp_path / "data/train/a.png")
    shard(tmp_path / "data/train/b.tar", SAMPLES[:1])
    shard(tmp_path / "data/test/c.tar", SAMPLES[:1])
    entries, _ = found(tmp_path / "data")
    assert [one.split for one in entries] == ["test", "train", "train"]


def test_patterns_name_shards_in_order(tmp_path):
    for name in ("b-00.tar", "a-01.tar", "a-00.tar"):
        (tmp_path / name).write_bytes(b"")
    assert find_shards(f"{tmp_path}/{{b,a}}-*.tar") == [
        f"{tmp_path}/{name}" for name in ("b-00.tar", "a-00.tar", "a-01.tar")
    ]
