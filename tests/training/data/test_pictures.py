import json

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from models.errors import DataError
from training.data import check
from training.data.pictures import (
    Entry,
    Pictures,
    batch_indices,
    epoch_order,
    load_pictures,
    open_picture,
    read_folder,
    to_tensor,
)


def picture(path, size=(40, 40), colour="red", **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(options.pop("mode", "RGB"), size, colour).save(path, **options)


def test_captions_come_from_the_file_beside_or_the_name(tmp_path):
    picture(tmp_path / "a_small-dog.png")
    picture(tmp_path / "x.jpg")
    (tmp_path / "x.txt").write_text("a cat\n\nthe cat\n")
    usable, skipped = read_folder(tmp_path)
    assert [entry.captions for entry in usable] == [("a small dog",), ("a cat", "the cat")]
    assert skipped == []


def test_metadata_names_captions_and_split_and_only_files_inside(tmp_path):
    picture(tmp_path / "data/in.png")
    picture(tmp_path / "out.png")
    rows = [
        json.dumps({"file_name": "in.png", "captions": ["one", "two"], "split": "train"}),
        json.dumps({"file_name": "../out.png", "text": "no"}),
        json.dumps({"file_name": "missing.png", "text": "no"}),
        "not json",
    ]
    (tmp_path / "data/metadata.jsonl").write_text("\n".join(rows))
    usable, skipped = read_folder(tmp_path / "data")
    assert [(entry.captions, entry.split) for entry in usable] == [(("one", "two"), "train")]
    assert [one.reason.split(",")[0] for one in skipped] == [
        "lies outside the folder",
        "named in line 3 of metadata.jsonl",
        "line 4 is not a JSON object with a file_name",
    ]


def test_broken_files_are_skipped_by_name_and_the_rest_is_used(tmp_path, capsys):
    picture(tmp_path / "good.png")
    picture(tmp_path / "whole.png", size=(200, 200), colour="blue")
    (tmp_path / "torn.png").write_bytes((tmp_path / "whole.png").read_bytes()[:60])
    (tmp_path / "text.jpg").write_text("this is no picture")
    (tmp_path / "empty.webp").write_bytes(b"")
    (tmp_path / "notes.doc").write_text("x")
    picture(tmp_path / "dot.png", size=(2, 2))
    assert check.main(tmp_path) == 0
    printed = capsys.readouterr().out
    for name in ("torn.png", "text.jpg", "empty.webp", "notes.doc", "dot.png"):
        assert f"skipped {name}: " in printed
    assert "2 pictures will be used" in printed


def test_a_folder_without_a_usable_picture_is_refused(tmp_path):
    (tmp_path / "text.jpg").write_text("x")
    with pytest.raises(DataError, match="no usable picture"):
        check.main(tmp_path)
    with pytest.raises(DataError, match="no usable picture"):
        load_pictures(tmp_path, 32, "train")
    with pytest.raises(DataError, match="not a folder"):
        read_folder(tmp_path / "nowhere")


def test_a_picture_that_claims_too_many_pixels_is_refused_before_it_is_decoded(tmp_path):
    picture(tmp_path / "bomb.png", size=(9000, 9000), mode="1", colour=0)
    with pytest.raises(DataError, match="too many"):
        open_picture(tmp_path / "bomb.png")


def test_transparency_is_laid_on_white_and_values_reach_from_minus_one_to_one(tmp_path):
    picture(tmp_path / "clear.png", mode="RGBA", colour=(0, 0, 0, 0))
    picture(tmp_path / "black.png", colour="black")
    pictures = Pictures(read_folder(tmp_path)[0], 32)
    assert torch.equal(pictures[1], torch.ones(3, 32, 32))
    assert torch.equal(pictures[0], -torch.ones(3, 32, 32))


def test_the_centre_of_a_wide_picture_is_kept():
    image = Image.new("RGB", (96, 32), "black")
    image.paste("white", (32, 0, 64, 32))
    assert torch.equal(to_tensor(image, 32), torch.ones(3, 32, 32))


@given(st.integers(1, 50), st.integers(1, 64), st.integers(0, 5))
def test_batches_walk_through_every_picture_once_an_epoch(length, batch_size, seed):
    steps = -(-3 * length // batch_size)
    seen = [index for step in range(steps) for index in batch_indices(length, batch_size, seed, step)]
    for epoch in range(3):
        part = seen[epoch * length : (epoch + 1) * length]
        assert sorted(part) == list(range(length))
        assert part == epoch_order(length, seed, epoch).tolist()


@pytest.mark.parametrize("count", [2, 9, 40, 700])
def test_without_splits_a_tenth_is_held_out_and_not_trained_on(tmp_path, monkeypatch, count):
    entries = [Entry(tmp_path / f"{number}.png", ("x",)) for number in range(count)]
    monkeypatch.setattr("training.data.pictures.read_folder", lambda _folder: (entries, []))
    train, held_out, _ = load_pictures(tmp_path, 32, "train")
    assert len(held_out) == max(1, min(64, count // 10))
    assert not set(train.entries) & set(held_out.entries)
    assert len(train) + len(held_out) == count


def test_a_persons_own_splits_are_kept_apart_whatever_they_call_them(tmp_path):
    for number in range(6):
        picture(tmp_path / f"{number}.png")
    names = ["train", "train", "train", "validation", "test", "other"]
    rows = [{"file_name": f"{i}.png", "text": "x", "split": split} for i, split in enumerate(names)]
    (tmp_path / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)))
    train, held_out, _ = load_pictures(tmp_path, 32, "train")
    assert [entry.file.name for entry in train.entries] == ["0.png", "1.png", "2.png"]
    assert [entry.file.name for entry in held_out.entries] == ["3.png"]
    only_train = [row for row in rows if row["split"] == "train"]
    (tmp_path / "metadata.jsonl").write_text("\n".join(map(json.dumps, only_train)))
    train, held_out, _ = load_pictures(tmp_path, 32, "train")
    assert (len(train), len(held_out)) == (2, 1)
    with pytest.raises(DataError, match=r"data\.split to one of train"):
        load_pictures(tmp_path, 32, "nothing")


def test_metadata_in_another_encoding_or_with_one_caption_as_text_is_read(tmp_path):
    picture(tmp_path / "a.png")
    (tmp_path / "metadata.jsonl").write_bytes(
        '{"file_name": "a.png", "captions": "caf\xe9"}'.encode("latin-1")
    )
    usable, skipped = read_folder(tmp_path)
    assert [entry.captions for entry in usable] == [("caf\ufffd",)]
    assert skipped == []
