import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file

from models.errors import ModelError
from models.text_encoder import TextEncoder, TextStates, prepare_text_encoder
from tests.models.families import family_model
from tests.tiny import TEXT_DIM, tiny_text_encoder, tiny_tokenizer


@pytest.fixture(scope="module")
def encoder() -> TextEncoder:
    return tiny_text_encoder()


@pytest.fixture
def saved(encoder: TextEncoder, tmp_path: Path) -> Path:
    encoder.save(tmp_path)
    return tmp_path


def states(tokens: int, prompts: int = 1) -> TextStates:
    mask = torch.arange(tokens) < torch.arange(1, prompts + 1).view(-1, 1)
    return TextStates(torch.randn(prompts, tokens, 3) * mask.unsqueeze(-1), mask, torch.randn(prompts, 3))


def edit_config(folder: Path, **changes: Any) -> None:
    file = folder / "text_encoder" / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))


def test_states_of_different_lengths_are_joined_with_masked_zeros() -> None:
    joined = TextStates.cat([states(2), states(5)])
    assert joined.hidden.shape == (2, 5, 3)
    assert not joined.mask[0, 2:].any()
    assert not joined.hidden[0, 2:].any()
    assert len(joined) == 2


@given(st.lists(st.integers(0, 3), min_size=1, max_size=8))
def test_selecting_from_joined_states_gives_the_parts_back(order: list[int]) -> None:
    parts = [states(tokens) for tokens in (1, 4, 2, 4)]
    chosen = TextStates.cat(parts).select(order)
    for row, index in enumerate(order):
        length = parts[index].mask.shape[1]
        assert torch.equal(chosen.hidden[row, :length], parts[index].hidden[0])
        assert torch.equal(chosen.pooled[row], parts[index].pooled[0])
        assert chosen.mask[row].sum() == parts[index].mask.sum()


def test_changing_the_type_of_states_leaves_the_mask_alone() -> None:
    half = states(3).to("cpu", torch.float16)
    assert (half.hidden.dtype, half.mask.dtype, half.pooled.dtype) == (
        torch.float16,
        torch.bool,
        torch.float16,
    )


def test_a_prompt_has_the_same_states_alone_and_beside_a_longer_one(encoder: TextEncoder) -> None:
    alone = encoder.encode(["a dog"])
    beside = encoder.encode(["a dog", "a red apple left of the blue cat"])
    length = alone.mask.shape[1]
    assert beside.mask.shape[1] > length
    torch.testing.assert_close(beside.hidden[0, :length], alone.hidden[0], atol=1e-5, rtol=0)
    torch.testing.assert_close(beside.pooled[0], alone.pooled[0], atol=1e-5, rtol=0)
    assert not beside.hidden[0, length:].any()


def test_pooled_states_are_the_mean_over_the_tokens(encoder: TextEncoder) -> None:
    encoded = encoder.encode(["a cat", "the red apple on the cat"])
    for row in range(2):
        expected = encoded.hidden[row][encoded.mask[row]].mean(0)
        torch.testing.assert_close(encoded.pooled[row], expected)


def test_the_empty_prompt_has_states(encoder: TextEncoder) -> None:
    encoded = encoder.encode([""])
    assert encoded.mask.all()
    assert encoded.hidden.isfinite().all()
    assert encoded.hidden.shape == (1, 2, TEXT_DIM)  # the begin and the end token


def test_a_long_prompt_is_cut_and_its_token_count_says_so(encoder: TextEncoder) -> None:
    prompt = "apple " * 40
    assert encoder.token_count(prompt) == 42
    assert encoder.encode([prompt]).mask.shape == (1, encoder.max_tokens)
    assert encoder.token_count("a red apple") == 5 <= encoder.max_tokens


def test_states_may_feed_training_but_the_encoder_stays_frozen(encoder: TextEncoder) -> None:
    layer = torch.nn.Linear(TEXT_DIM, 1)
    layer(encoder.encode(["a dog"]).pooled).sum().backward()
    assert layer.weight.grad is not None
    assert not any(p.requires_grad for p in encoder.parameters())
    assert not encoder.encoder.training


def test_the_states_of_tokens_carry_gradients_to_a_trained_encoder_which_has_no_dropout() -> None:
    trained = tiny_text_encoder().requires_grad_()
    trained.train()
    tokens = trained.tokenize(["a red apple", "the dog"])
    states = trained(*tokens)
    torch.testing.assert_close(states.hidden, trained.encode(["a red apple", "the dog"]).hidden)
    states.hidden.square().sum().backward()
    assert [name for name, p in trained.named_parameters() if p.grad is None] == []


def test_an_untrained_encoder_has_the_architecture_of_a_folder_that_needs_no_weights(saved: Path) -> None:
    (saved / "text_encoder" / "model.safetensors").unlink()
    torch.manual_seed(0)
    fresh, deeper = (TextEncoder.untrained(saved, layers) for layers in (0, 3))
    assert (fresh.dim, fresh.max_tokens) == (TEXT_DIM, 16)
    assert [one.encoder.config.num_hidden_layers for one in (fresh, deeper)] == [2, 3]
    deeper.save(saved)
    again = TextEncoder.from_folder(saved)
    prompts = ["a red apple", ""]
    torch.testing.assert_close(again.encode(prompts).hidden, deeper.encode(prompts).hidden, atol=2e-2, rtol=0)
    edit_config(saved, hidden_size="wide")
    with pytest.raises(ModelError, match="cannot be built"):
        TextEncoder.untrained(saved)


def test_a_saved_encoder_is_read_back_as_it_was(encoder: TextEncoder, saved: Path) -> None:
    again = TextEncoder.from_folder(saved)
    prompts = ["a red apple", "the dog", ""]
    torch.testing.assert_close(
        again.encode(prompts).hidden, encoder.encode(prompts).hidden, atol=2e-2, rtol=0
    )
    assert (again.dim, again.max_tokens) == (TEXT_DIM, 16)
    assert next(again.parameters()).dtype == torch.float32


def test_an_encoder_that_did_not_change_is_never_rewritten(saved: Path) -> None:
    file = saved / "text_encoder" / "model.safetensors"
    before = file.stat()
    TextEncoder.from_folder(saved).save(saved)
    after = file.stat()
    assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)


def test_what_is_saved_does_not_depend_on_what_was_read_before(saved: Path, tmp_path: Path) -> None:
    encoder = TextEncoder.from_folder(saved)
    for folder, texts in (("new", []), ("used", ["a red apple", "one that is a good deal longer"])):
        for text in texts:
            encoder.encode([text, ""])
        encoder.save(tmp_path / folder)
        names = sorted(file.name for file in (tmp_path / folder / "tokenizer").iterdir())
    files = [
        [(tmp_path / folder / "tokenizer" / name).read_bytes() for name in names]
        for folder in ("new", "used")
    ]
    assert files[0] == files[1]


def test_saved_files_can_be_read_by_everyone_and_name_no_path_of_ours(saved: Path) -> None:
    files = [file for file in saved.rglob("*") if file.is_file()]
    assert {oct(file.stat().st_mode & 0o777) for file in files} == {"0o644"}
    for file in files:
        assert b"local_files_only" not in file.read_bytes()


def test_a_folder_as_transformers_writes_it_is_read_as_it_lies(tmp_path: Path, saved: Path) -> None:
    flat = tmp_path / "flat"
    shutil.copytree(saved / "tokenizer", flat)
    shutil.copytree(saved / "text_encoder", flat, dirs_exist_ok=True)
    expected = TextEncoder.from_folder(saved).encode(["a red dog"])
    got = TextEncoder.from_folder(flat).encode(["a red dog"])
    assert torch.equal(got.hidden, expected.hidden)
    assert TextEncoder.untrained(flat, layers=1).encoder.config.num_hidden_layers == 1


def test_a_sentence_encoder_folder_becomes_two_part_folders(tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    tokenizer = tiny_tokenizer()
    model = family_model("bert", tokenizer)
    model.save_pretrained(source)
    tokenizer.save_pretrained(source)
    prepare_text_encoder(source, target, max_tokens=10)
    encoder = TextEncoder.from_folder(target)
    assert encoder.max_tokens == 10
    stored = load_file(target / "text_encoder" / "model.safetensors")
    assert {tensor.dtype for tensor in stored.values()} == {torch.float16}
    assert not any(name.startswith("pooler") for name in stored)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"model_type": "gpt2"}, "'gpt2' is not known"),
        ({"model_type": ["bert"]}, "is not known"),
        ({"auto_map": {"AutoModel": "evil.Model"}}, "'auto_map', which asks for code"),
        ({"_attn_implementation": "someone/kernel"}, "'_attn_implementation', which asks for code"),
        ({"position_embedding_type": "relative_key"}, "absolute position embeddings"),
        ({"num_hidden_layers": 10**9}, "more than 256"),
        ({"num_hidden_layers": 3}, "lacks 16 tensors"),
        ({"num_hidden_layers": 1}, "16 tensors more"),
        ({"intermediate_size": 10**12}, "has shape"),
        ({"hidden_act": "import os"}, "cannot be built"),
        ({"hidden_size": "many"}, "cannot be built"),
    ],
)
def test_a_config_that_asks_for_something_else_is_refused(
    saved: Path, changes: dict[str, Any], words: str
) -> None:
    edit_config(saved, **changes)
    with pytest.raises(ModelError, match=words):
        TextEncoder.from_folder(saved)


def test_a_tokenizer_with_more_tokens_than_the_encoder_is_refused(saved: Path) -> None:
    shutil.rmtree(saved / "tokenizer")
    vocab = {**tiny_tokenizer().get_vocab(), "extra": 10_000}
    transformers.BertTokenizer(vocab=vocab).save_pretrained(saved / "tokenizer")
    with pytest.raises(ModelError, match="do not belong together"):
        TextEncoder.from_folder(saved)


def test_a_damaged_tokenizer_is_refused_in_one_sentence(saved: Path) -> None:
    (saved / "tokenizer" / "tokenizer.json").write_text("{")
    with pytest.raises(ModelError, match="holds no BertTokenizer that can be read"):
        TextEncoder.from_folder(saved)
