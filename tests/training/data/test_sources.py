import csv
import json

import pytest

from models.errors import DataError
from tests.training.training_data import found, metadata, picture
from training.data.entries import Skipped
from training.data.sources import fingerprint


def test_captions_come_from_the_file_beside_or_the_name(tmp_path):
    picture(tmp_path / "a_small-dog.png")
    picture(tmp_path / "x.jpg")
    (tmp_path / "x.txt").write_text("a cat\n\nthe cat\n")
    (tmp_path / "y.txt").write_text("no picture")
    entries, skipped = found(tmp_path)
    assert [entry.captions for entry in entries] == [("a small dog",), ("a cat", "the cat")]
    assert skipped == [Skipped(str(tmp_path / "y.txt"), "a caption without a picture of its name")]


def test_folders_are_gone_through_in_the_order_of_their_parts(tmp_path):
    for name in ("b/z.png", "a-b/x.png", "a/y.png", "a.png", "b/a/k.png"):
        picture(tmp_path / name)
    (tmp_path / "b/loop").symlink_to(tmp_path)
    entries, _ = found(tmp_path)
    assert [entry.file for entry in entries] == [str(path) for path in sorted(tmp_path.rglob("*.png"))]


def test_labels_are_folders_and_splits_are_folders_named_as_such(tmp_path):
    for name in ("train/dog/1.png", "test/cat/old/2.png", "train/3.png", "bird/4.png", "5.png"):
        picture(tmp_path / name)
    entries, _ = found(tmp_path)
    assert {entry.file.rpartition("/")[2]: (entry.split, entry.label) for entry in entries} == {
        "1.png": ("train", "dog"),
        "2.png": ("test", "old"),
        "3.png": ("train", ""),
        "4.png": ("", "bird"),
        "5.png": ("", ""),
    }


def test_metadata_names_captions_split_and_label_and_only_files_inside(tmp_path):
    picture(tmp_path / "data/in.png")
    picture(tmp_path / "data/cats/in.png")
    picture(tmp_path / "data/unnamed.png")
    picture(tmp_path / "out.png")
    metadata(
        tmp_path / "data",
        {"file_name": "in.png", "captions": ["one", "two"], "split": "train", "label": 0},
        {"file_name": "cats/in.png", "text": "three"},
        {"file_name": "../out.png", "text": "no"},
        {"file_name": "missing.png", "text": "no"},
        {"file_name": None},
        {"file_name": "nul\0.png"},
        {"file_name": "x" * 5000},
    )
    with (tmp_path / "data/metadata.jsonl").open("a") as file:
        file.write("\nnot json\n[]\n" + "[" * 100_000)
    entries, skipped = found(tmp_path / "data")
    assert [(entry.captions, entry.split, entry.label) for entry in entries] == [
        (("one", "two"), "train", "0"),
        (("three",), "", "cats"),
    ]
    unreadable = "gives no file_name that can be read"
    assert [one.reason for one in skipped] == [
        "lies outside the folder",
        "named in line 4 of metadata.jsonl, but missing",
        *[f"line {number} {unreadable}" for number in range(5, 11)],
        "not named in metadata.jsonl",
    ]
    assert skipped[-1].name == str(tmp_path / "data/unnamed.png")


def test_beside_metadata_every_file_it_does_not_name_is_told(tmp_path):
    for name in ("a.png", "more/b.png", "more/c.png"):
        picture(tmp_path / name)
    (tmp_path / "metadata.csv").write_text("file_name,text\na.png,hello\n")
    metadata(tmp_path, {"file_name": "./a.png", "text": "one"}, {"file_name": "more/b.png", "text": "two"})
    entries, skipped = found(tmp_path)
    assert [entry.captions for entry in entries] == [("one",), ("two",)]
    assert {one.name.removeprefix(f"{tmp_path}/"): one.reason for one in skipped} == {
        "metadata.csv": "not named in metadata.jsonl",
        "more/c.png": "not named in metadata.jsonl",
    }


def test_links_that_cannot_be_followed_are_told(tmp_path):
    picture(tmp_path / "a.png")
    (tmp_path / "gone.png").symlink_to(tmp_path / "nowhere.png")
    (tmp_path / "loop").symlink_to(tmp_path)
    entries, skipped = found(tmp_path)
    assert len(entries) == 1
    assert [(one.name.rpartition("/")[2], one.reason.partition(",")[0]) for one in skipped] == [
        ("gone.png", "a link to nothing"),
        ("loop", "a link to a folder"),
    ]


def test_metadata_may_be_a_table_with_several_captions_in_a_cell(tmp_path):
    for name in ("a.png", "b.png"):
        picture(tmp_path / name)
    with (tmp_path / "metadata.csv").open("w", encoding="utf-8-sig", newline="") as file:
        table = csv.writer(file)
        table.writerow(["file_name", "text", "captions", "label"])
        table.writerow(["a.png", 'a "red"\nsquare, on white', "", ""])
        table.writerow(["b.png", "", json.dumps(["one", "two"]), "red"])
        table.writerow(["c.png"])
    entries, skipped = found(tmp_path)
    assert [(entry.captions, entry.label) for entry in entries] == [
        (('a "red"\nsquare, on white',), ""),
        (("one", "two"), "red"),
    ]
    assert len(skipped) == 1


def test_each_split_may_have_its_own_metadata(tmp_path):
    for split in ("train", "test"):
        picture(tmp_path / split / "a.png")
        metadata(tmp_path / split, {"file_name": "a.png", "text": f"of {split}"})
    entries, _ = found(tmp_path)
    assert [(entry.captions, entry.split) for entry in entries] == [
        (("of test",), "test"),
        (("of train",), "train"),
    ]


def test_metadata_in_another_encoding_or_with_one_caption_as_text_is_read(tmp_path):
    picture(tmp_path / "a.png")
    (tmp_path / "metadata.jsonl").write_bytes(
        '{"file_name": "a.png", "captions": "caf\xe9"}\n'.encode("latin-1")
        + rb'{"file_name": "a.png", "text": "half \ud83d of a face"}'
    )
    entries, skipped = found(tmp_path)
    assert [entry.captions for entry in entries] == [("caf\ufffd",), ("half ? of a face",)]
    assert skipped == []


def test_the_fingerprint_follows_every_file(tmp_path):
    picture(tmp_path / "a/x.png")
    seen = {fingerprint(str(tmp_path))}
    assert fingerprint(str(tmp_path)) in seen
    for change in (
        lambda: picture(tmp_path / "a/y.png"),
        lambda: (tmp_path / "a/y.txt").write_text("words"),
        lambda: (tmp_path / "a/y.txt").write_text("worms and more"),
        lambda: (tmp_path / "a/y.png").rename(tmp_path / "a/z.png"),
    ):
        change()
        now = fingerprint(str(tmp_path))
        assert now not in seen
        seen.add(now)
    (tmp_path / "a/z.png").unlink()
    (tmp_path / "a/y.txt").unlink()
    assert fingerprint(str(tmp_path)) in seen


def test_what_is_not_there_is_said(tmp_path):
    with pytest.raises(DataError, match="not a folder"):
        found(tmp_path / "nowhere")
    with pytest.raises(DataError, match=r"no-.*\.tar"):
        fingerprint(str(tmp_path / "no-{0..3}.tar"))
