"""The prompt language on SDXL's two text encoders."""

from pathlib import Path

import pytest
import torch

from models.folder import load_condition_encoder
from models.text_pair import TextEncoderPair
from pipelines.prompt.chunks import Tokens, count_tokens
from pipelines.prompt.conditions import Composition, conditions, read_prompt
from pipelines.prompt.encode import PromptEncoder
from tests.stable_diffusion import TOKENS, make_model

pytestmark = pytest.mark.slow
ROOM = TOKENS - 2  # letters between the begin and the end of a chunk


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model("sdxl", tmp_path_factory.mktemp("models") / "sdxl")


@pytest.fixture(scope="module")
def pair(folder: Path) -> TextEncoderPair:
    encoder = load_condition_encoder(folder)
    assert isinstance(encoder, TextEncoderPair)
    return encoder


def test_words_are_weighted_with_the_mean_of_each_encoder_kept(pair: TextEncoderPair) -> None:
    encoder = PromptEncoder(pair)
    plain, weighted = encoder.encode("a cat"), encoder.encode("a (cat:1.5)")
    for before, after in zip(
        plain.hidden.split(pair.widths, -1), weighted.hidden.split(pair.widths, -1), strict=True
    ):
        assert torch.allclose(before.mean(), after.mean(), atol=1e-6)
        assert not torch.allclose(before, after, atol=1e-3)
    assert torch.equal(plain.pooled, weighted.pooled)


def test_chunks_are_read_one_behind_the_other_and_pooled_by_the_first(pair: TextEncoderPair) -> None:
    alone = pair.encode(["ab", "cd"])
    parted = PromptEncoder(pair).encode("ab BREAK cd")
    assert parted.hidden.shape == (1, 2 * TOKENS, pair.dim)
    assert torch.allclose(parted.hidden[0], alone.hidden.flatten(0, 1), atol=1e-5)
    assert torch.allclose(parted.pooled, alone.pooled[:1], atol=1e-5)
    long = PromptEncoder(pair).encode("abcdefghij" + "cd")  # a full chunk, and two letters
    assert torch.allclose(long.hidden[:, TOKENS:], alone.hidden[1:], atol=1e-5)


def test_the_counter_counts_once_for_both(folder: Path) -> None:
    tokens = Tokens.from_folder(folder)
    assert tokens is not None
    assert (tokens.size, tokens.continues) == (ROOM, True)
    assert (count_tokens("abc", tokens, 4).count, count_tokens("abc", tokens, 4).limit) == (3, ROOM)
    assert count_tokens("a" * ROOM + "b", tokens, 4).limit == 2 * ROOM


def test_joined_prompts_and_words_by_step_keep_what_is_pooled(pair: TextEncoderPair) -> None:
    by_step = conditions([read_prompt("[a:b:0.5] AND c:0.5", 4)], PromptEncoder(pair).encode)
    assert callable(by_step)
    early, late = by_step(1), by_step(4)
    assert isinstance(early, Composition)
    assert isinstance(late, Composition)
    wanted = pair.encode(["b", "c"]).pooled
    assert torch.allclose(late.states.pooled, wanted, atol=1e-5)
    assert not torch.allclose(early.states.pooled[0], wanted[0], atol=1e-3)
