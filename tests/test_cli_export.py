"""`launch.py export`, and single files in the other commands."""

import json
from pathlib import Path

import pytest
import torch

import launch
from app.cards import read_card
from app.model_facts import read_facts
from app.model_list import ModelList, model_folders
from models.folder import load_model, model_id
from models.weights import sha256
from pipelines.memory import ModelBytes, plan_for_folder
from pipelines.prompt.chunks import Tokens
from tests.commands import Generate
from tests.models.single_file.tiny import SIDE, tiny_file
from training.config import DiffusionConfig, load_config
from training.finetune import resolve_diffusion


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_file("sd1", tmp_path_factory.mktemp("single") / "mine.safetensors")


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LATENT_STUDIO_CACHE", str(tmp_path / "cache"))


def export(*words: str | Path) -> int:
    return launch.main(["export", "--no-setup", *map(str, words)])


@pytest.mark.slow
def test_a_file_becomes_a_folder_and_a_file_again(file: Path, tmp_path: Path, capsys) -> None:
    assert export(file, "--output", tmp_path / "folder") == 0
    assert export(tmp_path / "folder", "--output", tmp_path / "again.safetensors") == 0
    assert capsys.readouterr().out.split() == [
        str(tmp_path / "folder"),
        str(tmp_path / "again.safetensors"),
    ]
    models = [load_model(path) for path in (file, tmp_path / "folder", tmp_path / "again.safetensors")]
    prompt = "a photo of a cat"
    hidden = [model.text_encoder.encode([prompt]).hidden for model in models]
    unets = [model.denoiser.unet.state_dict() for model in models]
    for number in (1, 2):
        assert torch.equal(hidden[0], hidden[number])
        assert all(torch.equal(weight, unets[number][name]) for name, weight in unets[0].items())


def test_what_cannot_be_exported_is_said(file: Path, tiny_model_folder: Path, tmp_path: Path, capsys) -> None:
    for words, said in (
        ((tiny_model_folder, "--output", tmp_path / "a.safetensors"), "does not read words with CLIP"),
        ((file, "--output", file), "is there already"),
        ((tmp_path / "none", "--output", tmp_path / "a"), "there is no model folder"),
    ):
        assert export(*words) == 2
        assert said in capsys.readouterr().err
    assert not (tmp_path / "a.safetensors").exists()


@pytest.mark.slow
def test_generate_draws_with_a_file(file: Path, generate: Generate, tmp_path: Path) -> None:
    words = (
        "a cat",
        "--model",
        file,
        "--steps",
        "2",
        "--width",
        SIDE,
        "--height",
        SIDE,
        "--json",
        "--seed",
        "1",
    )
    (line,) = generate(*map(str, words), "--output-dir", tmp_path)
    facts = json.loads(line)
    assert (facts["model"], facts["model_id"]) == ("mine", sha256(file)[:10])
    (path,) = generate(*map(str, words[:-3]), "--vae", str(file), "--output-dir", str(tmp_path))
    assert b"VAE: mine.safetensors" in Path(path).read_bytes()


def test_the_page_knows_a_file(file: Path, tmp_path: Path) -> None:
    card, facts = read_card(file), read_facts(file)
    assert (card.name, card.path, card.size, card.factor) == ("mine", file, "512x512", 8)
    assert (card.words, card.distilled) == (True, False)
    assert set(facts.parameters) == {"unet", "vae", "text_encoder"}
    assert facts.size_bytes == file.stat().st_size
    assert (facts.prediction, facts.text_encoder, facts.channels) == ("epsilon", "clip_text_model", 4)
    assert 4 * sum(facts.parameters.values()) == ModelBytes.of_folder(file).total
    assert plan_for_folder(file, 2**34, (SIDE, SIDE), can_offload=False) is not None
    tokens = Tokens.from_folder(file)
    assert tokens is not None
    assert (tokens.size, tokens.continues) == (75, True)
    assert model_folders(file)[0] == file.resolve()
    models = ModelList([], tmp_path / "models.json")
    models.add(file)
    assert [one.name for one in ModelList([], tmp_path / "models.json")] == ["mine"]


def test_a_file_that_was_replaced_is_read_anew_and_one_that_is_gone_said(tmp_path: Path, file: Path) -> None:
    own = tmp_path / "own.safetensors"
    own.write_bytes(file.read_bytes())
    models = ModelList([own])
    own.write_bytes(own.read_bytes()[:-1])
    models.look()
    assert "broken download" in models.listed[0].trouble
    own.unlink()
    models.look()
    assert "no longer there" in models.listed[0].trouble


def test_the_hash_of_a_file_is_computed_once(file: Path, tmp_path: Path, monkeypatch) -> None:
    assert model_id(file) == sha256(file)[:10]
    monkeypatch.setattr("models.single_file.digest.sha256", lambda path: pytest.fail("read again"))
    assert model_id(file) == sha256(file)[:10]
    (tmp_path / "cache/sha256.json").write_text("damaged")
    with pytest.raises(pytest.fail.Exception):
        model_id(file)


def test_a_training_does_not_begin_at_a_file(file: Path) -> None:
    config = load_config(DiffusionConfig, "tiny-diffusion", [f"init.model={file}", "data.path=/pictures"])
    with pytest.raises(Exception, match=r"is a single file, .* export .* --output FOLDER"):
        resolve_diffusion(config)
