import sqlite3

import numpy as np
import pytest
import torch

from models.errors import ConfigError, DataError, StudioError
from tests.training.training_data import data, metadata, picture, png, shard
from training.data import check, sizes
from training.data.pictures import load_pictures
from training.runs import runs_folder


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "pictures"
    folder.mkdir()
    return folder


def names(pictures):
    return [pictures.entry(i).file.rpartition("/")[2] for i in range(len(pictures))]


def test_broken_files_are_skipped_by_name_and_the_rest_is_used(folder, capsys):
    picture(folder / "good.png")
    whole = picture(folder / "deep/whole.png", size=(200, 200), colour="blue")
    (folder / "deep/torn.png").write_bytes(whole.read_bytes()[:60])
    (folder / "text.jpg").write_text("this is no picture")
    (folder / "empty.webp").write_bytes(b"")
    (folder / "notes.doc").write_text("x")
    (folder / "half\udc80.gif").write_bytes(b"GIF89a")
    picture(folder / "dot.png", size=(2, 2))
    bad = ("deep/torn.png", "text.jpg", "empty.webp", "notes.doc", "half?.gif", "dot.png")
    assert check.main(str(folder)) == 0
    printed = capsys.readouterr().out
    for name in bad:
        assert printed.count(f"skipped {name}: ") == 1
    assert "2 pictures will be used" in printed
    assert not runs_folder().exists()  # a check writes nothing

    train, held_out, skipped = load_pictures(data(folder))
    assert (len(train), len(held_out), skipped) == (1, 1, 6)
    told = capsys.readouterr().err
    for name in bad:
        assert told.count(f"skipped {folder}/{name}: ") == 1
    load_pictures(data(folder))
    assert "skipped" not in capsys.readouterr().err


def test_a_dataset_without_a_usable_picture_is_refused_and_leaves_nothing(folder):
    (folder / "text.jpg").write_text("x")
    with pytest.raises(DataError, match="no usable picture among 1 files"):
        check.main(str(folder))
    with pytest.raises(DataError, match="no usable picture among 1 files"):
        load_pictures(data(folder))
    with pytest.raises(DataError, match="not a folder"):
        check.main(str(folder / "nowhere"))
    assert not runs_folder().exists()


@pytest.mark.parametrize("count", [2, 9, 40, 700])
def test_without_splits_a_tenth_is_held_out_evenly_and_not_trained_on(folder, count):
    samples = [{"__key__": f"{number:04}", "png": png((16, 16))} for number in range(count)]
    shard(folder / "all.tar", samples)
    train, held_out, _ = load_pictures(data(folder))
    apart = max(1, min(64, count // 10))
    assert len(held_out) == apart
    assert list(held_out.numbers) == [number * count // apart for number in range(apart)]
    assert sorted([*train.numbers, *held_out.numbers]) == list(range(count))
    assert list(train.numbers) == sorted(train.numbers)


def test_a_persons_own_splits_are_kept_apart_whatever_they_call_them(folder):
    for number in range(6):
        picture(folder / f"{number}.png")
    splits = ["train", "train", "train", "validation", "test", "other"]
    rows = [{"file_name": f"{i}.png", "text": "x", "split": split} for i, split in enumerate(splits)]
    metadata(folder, *rows)
    train, held_out, _ = load_pictures(data(folder))
    assert names(train) == ["0.png", "1.png", "2.png"]
    assert names(held_out) == ["3.png"]
    metadata(folder, *(row for row in rows if row["split"] == "train"))
    train, held_out, _ = load_pictures(data(folder))
    assert (len(train), len(held_out)) == (2, 1)
    with pytest.raises(DataError, match=r"data\.split to one of train"):
        load_pictures(data(folder, split="nothing"))


def test_captions_are_numbered_once_and_labels_are_given(folder):
    for name in ("a", "b", "c"):
        picture(folder / f"{name}.png")
    metadata(
        folder,
        {"file_name": "a.png", "captions": ["one", "two", "one"], "split": "train", "label": "x"},
        {"file_name": "b.png", "captions": ["two", "nul\0l"], "split": "train", "label": "y"},
        {"file_name": "c.png", "split": "test"},
    )
    train, held_out, _ = load_pictures(data(folder))
    assert [train.index.caption(i) for i in range(train.index.caption_count)] == ["", "one", "two", "nul\0l"]
    assert [train.caption_numbers(i) for i in range(2)] == [[1, 2], [2, 3]]
    assert held_out.caption_numbers(0) == [0]
    assert [train.label(i) for i in range(2)] == ["x", "y"]
    assert train.index.labels(["train"]) == ["x", "y"]
    assert train.index.labels(["train", "test"]) == ["", "x", "y"]


def test_a_picture_that_is_lost_later_gives_its_place_to_one_of_its_bucket(folder, capsys):
    for number in range(12):
        shape = (64, 32) if number % 2 else (32, 64)
        picture(folder / f"{number:02}.png", size=shape, colour=(20 * number, 0, 0))
    train, _, _ = load_pictures(data(folder, buckets=3, bucket_multiple=8))
    wide = [i for i in range(len(train)) if train.buckets[i] == 2]
    before = train.batch(wide)
    lost = wide[0]
    (folder / names(train)[lost]).write_bytes(b"gone bad")
    capsys.readouterr()
    pixels, shown = train.read(wide)
    again, shown_again = train.read(wide)
    assert shown[1:] == wide[1:]
    assert shown[0] != lost
    assert shown[0] in wide
    assert torch.equal(pixels[0], before[wide.index(shown[0])])
    assert shown_again == shown
    assert torch.equal(again, pixels)
    assert capsys.readouterr().err.count("skipped") == 1


def test_a_dataset_that_is_gone_altogether_ends_the_run_with_a_reason(folder):
    for number in range(4):
        picture(folder / f"{number}.png")
    train, _, _ = load_pictures(data(folder))
    for file in folder.iterdir():
        file.unlink()
    with pytest.raises(DataError, match="whether the dataset is still there"):
        train.batch([0])


def test_only_what_is_new_is_decoded_again(folder, monkeypatch):
    for number in range(4):
        picture(folder / f"{number}.png")
    load_pictures(data(folder))
    picture(folder / "new.png")
    decoded, real = [], sizes.open_entry

    def counted(entry):
        decoded.append(entry.file.rpartition("/")[2])
        return real(entry)

    monkeypatch.setattr(sizes, "open_entry", counted)
    train, held_out, _ = load_pictures(data(folder))
    assert decoded == ["new.png"]
    assert len(train) + len(held_out) == 5
    load_pictures(data(folder))
    assert decoded == ["new.png"]


def test_the_index_is_read_through_the_page_cache_and_cannot_be_written(folder):
    picture(folder / "a.png")
    train, _, _ = load_pictures(data(folder))
    with pytest.raises(sqlite3.OperationalError, match="readonly"):
        train.index.database.execute("DELETE FROM pictures")
    assert isinstance(train.numbers, np.memmap)


def test_a_place_that_cannot_be_written_is_said(folder, tmp_path, monkeypatch):
    picture(folder / "a.png")
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("LATENT_STUDIO_RUNS", str(tmp_path / "file"))
    with pytest.raises(StudioError, match=r"cannot be made in .*file/cache"):
        load_pictures(data(folder))


def test_a_colour_that_is_none_is_refused(folder):
    with pytest.raises(ConfigError, match=r"data\.background is 'no colour'"):
        load_pictures(data(folder, background="no colour"))
