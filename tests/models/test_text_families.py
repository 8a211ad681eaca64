import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from models.text_encoder import TextEncoder
from models.text_families import FAMILIES
from tests.models.families import family_model, family_tokenizer


@pytest.mark.parametrize("name", FAMILIES)
def test_every_family_gives_the_states_that_transformers_gives(name: str, tmp_path: Path) -> None:
    tokenizer = family_tokenizer(name)
    model = family_model(name, tokenizer)
    model.save_pretrained(tmp_path / "text_encoder")  # with a pooler where the class has one
    tokenizer.save_pretrained(tmp_path / "tokenizer")
    encoder = TextEncoder.from_folder(tmp_path)
    prompt = "a dog"
    tokens = encoder.tokenizer(prompt, return_tensors="pt")
    assert len(tokens["input_ids"][0]) > 3
    with torch.no_grad():
        expected = model(
            input_ids=tokens["input_ids"], attention_mask=tokens["attention_mask"]
        ).last_hidden_state
    got = encoder.encode([prompt])
    length = expected.shape[1]
    torch.testing.assert_close(got.hidden[:, :length], expected, atol=1e-5, rtol=1e-4)
    encoder.save(tmp_path / "again")
    torch.testing.assert_close(
        TextEncoder.from_folder(tmp_path / "again").encode([prompt]).pooled, got.pooled, atol=5e-2, rtol=0
    )


def clip_folder(tmp_path: Path) -> tuple[Any, Path]:
    tokenizer = family_tokenizer("clip_text_model")
    model = family_model("clip_text_model", tokenizer)
    model.save_pretrained(tmp_path / "text_encoder")
    tokenizer.save_pretrained(tmp_path / "tokenizer")
    return model, tmp_path


def test_clip_is_padded_to_its_full_length_unmasked_and_pooled_by_itself(tmp_path: Path) -> None:
    model, folder = clip_folder(tmp_path)
    encoder = TextEncoder.from_folder(folder)
    got = encoder.encode(["a dog", "a"])
    assert got.hidden.shape[:2] == got.mask.shape == (2, 12)
    assert got.mask.all()
    tokens = encoder.tokenizer(["a dog", "a"], padding="max_length", max_length=12, return_tensors="pt")
    torch.testing.assert_close(got.pooled, model(tokens["input_ids"]).pooler_output.detach())


def test_clip_files_of_earlier_transformers_are_read(tmp_path: Path) -> None:
    _, folder = clip_folder(tmp_path)
    expected = TextEncoder.from_folder(folder).encode(["a dog"]).hidden
    file = folder / "text_encoder" / "model.safetensors"
    weights = {f"text_model.{k.removeprefix('text_model.')}": v for k, v in load_file(file).items()}
    weights["text_model.embeddings.position_ids"] = torch.arange(12).unsqueeze(0)
    save_file(weights, file)
    assert torch.equal(TextEncoder.from_folder(folder).encode(["a dog"]).hidden, expected)


def test_clip_vocabularies_of_earlier_transformers_are_read(tmp_path: Path) -> None:
    _, folder = clip_folder(tmp_path)
    expected = TextEncoder.from_folder(folder).encode(["a dog"]).hidden
    vocab = family_tokenizer("clip_text_model").get_vocab()
    (folder / "tokenizer" / "tokenizer.json").unlink()
    (folder / "tokenizer" / "vocab.json").write_text(json.dumps(vocab))
    (folder / "tokenizer" / "merges.txt").write_text("#version: 0.2\n")
    assert torch.equal(TextEncoder.from_folder(folder).encode(["a dog"]).hidden, expected)
