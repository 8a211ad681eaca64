from typing import Any

import pytest
import torch

from models.text_encoder import TextEncoder, TextStates
from pipelines.prompt.encode import PromptEncoder, restore_mean
from tests.models.families import family_model, family_tokenizer
from tests.tiny import tiny_text_encoder


def tiny_clip() -> TextEncoder:
    """A CLIP of one layer that reads ten letters a chunk, with a mean to restore, as the trained one has."""
    tokenizer = family_tokenizer("clip_text_model")
    model = family_model("clip_text_model", tokenizer)
    with torch.no_grad():
        model.final_layer_norm.bias.fill_(0.3)
    return TextEncoder(model, tokenizer)


ENCODERS = {"bert": tiny_text_encoder, "clip": tiny_clip}


@pytest.fixture(scope="module", params=ENCODERS)
def encoder(request: pytest.FixtureRequest) -> TextEncoder:
    return ENCODERS[request.param]()


@pytest.fixture(scope="module")
def prompts(encoder: TextEncoder) -> PromptEncoder:
    return PromptEncoder(encoder)


def equal(one: TextStates, other: TextStates) -> bool:
    pairs = ((one.hidden, other.hidden), (one.mask, other.mask), (one.pooled, other.pooled))
    return all(torch.equal(*pair) for pair in pairs)


@pytest.mark.parametrize("prompt", ["a dog", "", " a, dog ", r"a \(dog\)", "(a:1) dog"])
def test_without_weights_the_states_are_those_of_the_encoder(
    encoder: TextEncoder, prompts: PromptEncoder, prompt: str
) -> None:
    words = {r"a \(dog\)": "a (dog)", "(a:1) dog": "a dog"}.get(prompt, prompt)
    assert equal(prompts.encode(prompt), encoder.encode([words]))


def test_a_prompt_that_is_too_long_is_cut_where_it_is_not_clip() -> None:
    bert = tiny_text_encoder()
    assert equal(PromptEncoder(bert).encode("a dog " * 20), bert.encode(["a dog " * 20]))


def test_weights_multiply_the_states_and_the_mean_stays(encoder: TextEncoder, prompts: PromptEncoder) -> None:
    plain, weighted = encoder.encode(["a dog"]).hidden, prompts.encode("a (dog:1.5)").hidden
    letters = 3 if encoder.is_clip else 1  # tokens of the word
    weights = torch.ones(plain.shape[1])
    weights[2 : 2 + letters] = 1.5  # behind the begin and "a"
    multiplied = plain * weights.view(1, -1, 1)
    torch.testing.assert_close(weighted.mean(), plain.mean(), atol=1e-6, rtol=1e-4)
    torch.testing.assert_close(weighted, restore_mean(multiplied, plain))
    if encoder.is_clip:  # A1111's own formula
        torch.testing.assert_close(weighted, multiplied * (plain.mean() / multiplied.mean()))
    assert not torch.allclose(weighted, plain, atol=1e-2)


def test_a_mean_near_zero_is_not_divided_by() -> None:
    torch.manual_seed(0)
    states = torch.randn(1, 5, 64)
    states -= states.mean() - 1e-4
    weights = torch.tensor([1, 1, 2, 1, 1.0]).view(1, -1, 1)
    restored = restore_mean(states * weights, states)
    torch.testing.assert_close(restored.mean(), states.mean(), atol=1e-6, rtol=0)
    assert (restored - states * weights).abs().max() < 0.05
    assert restore_mean(torch.zeros(1, 5, 64), states).isfinite().all()
    assert restore_mean(torch.zeros(1, 5, 64), torch.zeros(1, 5, 64)).isfinite().all()


def test_break_joins_chunks_that_were_encoded_apart(encoder: TextEncoder, prompts: PromptEncoder) -> None:
    both = prompts.encode("a dog BREAK a cat")
    first, second = encoder.encode(["a dog"]), encoder.encode(["a cat"])
    torch.testing.assert_close(both.hidden, torch.cat([first.hidden, second.hidden], dim=1))
    assert both.mask.all()
    assert both.mask.shape == both.hidden.shape[:2]
    pooled = first.pooled if encoder.is_clip else both.hidden.mean(dim=1)
    torch.testing.assert_close(both.pooled, pooled)


def test_clip_goes_on_in_the_next_chunk() -> None:
    clip = tiny_clip()
    long = PromptEncoder(clip).encode("abcdefghijklm")
    assert long.hidden.shape[1] == 2 * clip.max_tokens
    # The tokenizer ends every word of its own with another token, so the parts are compared by number.
    with torch.no_grad():
        begin, *word, end = clip.tokenizer("abcdefghijklm", truncation=False)["input_ids"]
        for index, chunk in enumerate((word[:10], word[10:])):
            row = torch.tensor([[begin, *chunk, end, *[clip.tokenizer.pad_token_id] * (10 - len(chunk))]])
            expected = clip.encoder(input_ids=row).last_hidden_state
            got = long.hidden[:, index * clip.max_tokens : (index + 1) * clip.max_tokens]
            torch.testing.assert_close(got, expected)


@pytest.mark.parametrize(
    "prompt", ["(a dog", "a dog]", "((a:1.2) (dog:0.5):2) [cat]", ":::", "(a:0)", "BREAK"]
)
def test_whatever_is_typed_has_states(prompts: PromptEncoder, prompt: str) -> None:
    states: Any = prompts.encode(prompt)
    assert states.hidden.isfinite().all()
    assert states.pooled.isfinite().all()
    assert states.mask.all()
