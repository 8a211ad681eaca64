import json
import shutil
from argparse import Namespace

import pytest
import torch
from PIL import Image

from evaluation import diffusion
from evaluation.diffusion import Real, closeness, copying, retrieval
from evaluation.embeddings import embed_files
from evaluation.questions import Question, questions
from evaluation.starter_data import Thing, read_things
from models.errors import DataError
from pipelines.local_engine import TORCH_VERSION, LocalEngine
from tests.models.test_clip_vision import save_clip


def thing(concept, style, split="train"):
    return Thing(None, f"{concept}, {style} style", concept, style, split)


def test_each_kind_of_question_asks_what_it_says(dataset):
    asked = questions(read_things(dataset), 300, 0)
    assert {one.style for one in asked["train"]} == {"noto", "flat"}
    assert len(asked["train"]) == 6
    assert {(one.concept, one.style) for one in asked["heldout"]} == {
        ("dog", "glossy"), ("cat", "glossy"), ("red apple", "glossy"),
    }  # fmt: skip
    # In other words than its own, and of no concept that the model never saw.
    assert {one.concept for one in asked["paraphrase"]} == {"dog", "cat", "red apple"}
    assert all(one.style == "" and one.concept not in one.prompt for one in asked["paraphrase"])


def test_the_list_depends_on_the_seed_alone(dataset):
    things = read_things(dataset)
    assert questions(things, 2, 0) == questions(things, 2, 0)
    assert questions(things, 2, 0)["train"] != questions(things, 2, 3)["train"]


def test_retrieval_counts_each_round_against_the_ceiling():
    things = [
        thing("a", "x"),
        thing("a", "y"),
        thing("b", "x"),
        thing("b", "y"),
        thing("a", "z", "held-out pair"),
    ]
    real = Real(things, torch.eye(5) + 0.1 * torch.tensor([1.0, 1, 0, 0, 1])[:, None])
    asked = [Question("", "a", "x"), Question("", "b", "x")]
    right, wrong = real.features[[1, 3]], real.features[[3, 1]]
    result = retrieval(real, torch.stack([right, wrong]), asked)
    assert result["n"] == 2
    assert result["top1"] == 0.5
    assert result["top1_rounds"] == [1.0, 0.0]
    assert result["ceiling_top1"] == 1.0
    assert result["share_top1"] == 0.5


def test_a_model_that_gives_back_its_training_pictures_is_seen_to_copy():
    train, held_out = torch.eye(8)[:4], torch.eye(8)[:4] + torch.eye(8)[4:]
    things = [thing(str(i), "x") for i in range(4)] + [thing(str(i), "y", "held-out pair") for i in range(4)]
    real = Real(things, torch.cat([train, held_out]))
    asked = {"train": [Question("", str(i), "x") for i in range(4)]}
    assert copying(real, {"train": train[None]}, asked)["train"] == 1
    assert copying(real, {"train": held_out[None]}, asked)["train"] == 0
    assert copying(real, {"train": train[None]}, asked)["real"] == 0  # no concept has another picture


@pytest.mark.slow
def test_the_command_draws_compares_with_real_pictures_and_goes_on_where_it_stopped(
    tiny_model_folder, dataset, tmp_path, capsys
):
    model, grid = tmp_path / "model", tmp_path / "grid.png"
    shutil.copytree(tiny_model_folder, model)
    args = Namespace(
        model=model, data=dataset, device="cpu", engine="torch", count=3, rounds=2, seed=0, steps=None,
        guidance_scale=None, grid=grid, json=True, features=None,
    )  # fmt: skip
    assert diffusion.main(args) == 0
    result = json.loads(capsys.readouterr().out)
    assert {kind: one["n"] for kind, one in result["retrieval"].items()} == dict.fromkeys(diffusion.KINDS, 3)
    for one in result["retrieval"].values():
        assert one["top5_interval"][0] <= one["top5"] <= one["top5_interval"][1]
        assert len(one["top5_rounds"]) == 2
    assert result["pictures"] == 6
    assert result["settings"]["engine"] == f"torch cpu float32 {TORCH_VERSION}"
    assert result["frechet_distance"] is None  # of six pictures it would say nothing
    assert json.loads((model / "metrics.json").read_text()) == {"diffusion": result}
    assert Image.open(grid).size == (8 * 32, 32)

    drawn = sorted((tmp_path / "runs/cache/drawn").rglob("*.png"))
    assert len(drawn) == 3 * 3 * 2
    (removed, *kept) = drawn
    before = [file.stat().st_mtime_ns for file in kept]
    pixels = Image.open(removed).tobytes()
    removed.unlink()
    assert diffusion.main(args) == 0
    assert [file.stat().st_mtime_ns for file in kept] == before
    assert Image.open(removed).tobytes() == pixels
    assert json.loads(capsys.readouterr().out) == result

    args.json, args.steps = False, 1  # no longer as the model itself would draw
    assert diffusion.main(args) == 0
    said = capsys.readouterr().out
    assert "| held-out pairs | 3 |" in said
    assert "- one of five nearest, seed by seed: training captions " in said
    assert json.loads((model / "metrics.json").read_text()) == {"diffusion": result}

    args.steps, args.count = None, 2  # fewer captions than are known of these weights
    assert diffusion.main(args) == 0
    args.count, args.seed = 3, 1  # another list
    assert diffusion.main(args) == 0
    assert json.loads((model / "metrics.json").read_text()) == {"diffusion": result}
    args.seed = 0
    capsys.readouterr()

    save_clip(tmp_path / "clip-vit-tiny")
    args.json, args.steps, args.features = True, None, tmp_path / "clip-vit-tiny"
    assert diffusion.main(args) == 0
    by_clip = json.loads(capsys.readouterr().out)
    assert by_clip["features"] == "clip-vit-tiny"
    assert by_clip["kernel_distance"] != result["kernel_distance"]
    kept = json.loads((model / "metrics.json").read_text())
    assert kept == {"diffusion": {**result, "other_features": {"clip-vit-tiny": by_clip}}}
    assert any("kernel distance (clip-vit-tiny)" in line for line in diffusion.lines(by_clip))


def test_what_depends_on_the_number_of_pictures_is_of_equally_many():
    generator = torch.Generator().manual_seed(0)
    real, drawn = torch.rand(40, 4, generator=generator), torch.rand(60, 4, generator=generator)
    for result in (closeness(real, drawn), closeness(drawn, real)):
        assert result["equal_pictures"] == 40
        for name in ("precision", "recall"):  # a share of 40
            assert result[name] * 40 == pytest.approx(round(result[name] * 40), abs=0.005)
    assert closeness(real, drawn)["pictures"] == 60


@pytest.mark.slow
def test_a_model_with_a_student_has_it_measured_too(taught_model_folder, dataset, tmp_path, capsys):
    model = shutil.copytree(taught_model_folder, tmp_path / "model")
    (model / "README.md").write_text("<!-- measured instant -->\n<!-- /measured instant -->\n")
    args = Namespace(
        model=model, data=dataset, device="cpu", engine="openvino", count=3, rounds=4, seed=0, steps=None,
        guidance_scale=None, grid=None, json=True, features=None,
    )  # fmt: skip
    assert diffusion.main(args) == 0
    student = json.loads(capsys.readouterr().out)["instant"]
    kept = json.loads((model / "metrics.json").read_text())
    assert kept.keys() == {"diffusion", "instant"}
    engine = LocalEngine(model, "cpu", runner="openvino").name
    assert engine.startswith("openvino cpu ")
    assert kept["diffusion"]["settings"]["engine"] == engine
    assert kept["instant"] == student
    assert (student["steps"], student["pictures"]) == (2, 12)
    for name in ("kernel_distance_ratio", "retrieval_top5_drop"):
        low, high = student[f"{name}_interval"]
        assert low <= student[name] <= high
    assert "The student draws in 2 steps" in (model / "README.md").read_text()


@pytest.mark.slow
def test_features_of_pictures_are_kept_until_a_picture_changes(tmp_path):
    files = [tmp_path / f"{name}.png" for name in ("left", "right")]
    for file in files:
        Image.new("RGB", (32, 32), "red").save(file)
    first = embed_files(files, 32)
    (kept,) = (tmp_path / "runs/cache").iterdir()
    written = kept.stat().st_mtime_ns
    assert torch.equal(embed_files(files, 32), first)
    assert kept.stat().st_mtime_ns == written
    Image.new("RGB", (32, 32), "blue").save(tmp_path / "right.png")
    second = embed_files(files, 32)
    assert torch.allclose(second[0], first[0], atol=1e-4)
    assert not torch.allclose(second[1], first[1], atol=1e-2)
    assert embed_files(files, 48).shape == (2, 1280)
    assert len(list((tmp_path / "runs/cache").iterdir())) == 3
    (tmp_path / "left.png").unlink()
    with pytest.raises(DataError, match=r"left\.png"):
        embed_files(files, 32)


def test_a_folder_that_is_no_starter_dataset_is_named(tmp_path):
    with pytest.raises(DataError, match="data starter"):
        read_things(tmp_path)


@pytest.mark.parametrize("missing", ["train", "held-out pair"])
def test_a_dataset_without_anything_to_compare_with_is_refused(dataset, tmp_path, missing):
    rows = (dataset / "metadata.jsonl").read_text().splitlines()
    kept = [row for row in rows if json.loads(row)["split"] != missing]
    (tmp_path / "metadata.jsonl").write_text("\n".join(kept))
    with pytest.raises(DataError, match=f'no picture of the split "{missing}"'):
        read_things(tmp_path)
