from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pipelines.prompt.chunks import Tokens
from pipelines.prompt.unknown import unknown_words
from tests.models.families import family_tokenizer

STARTER = Path(__file__).parents[3] / "checkpoints" / "starter"
CLIP = Tokens(family_tokenizer("clip_text_model"), 12, continues=True)  # knows single letters alone


@pytest.fixture(scope="module")
def minilm() -> Tokens:
    tokens = Tokens.from_folder(STARTER)
    assert tokens is not None
    return tokens


@pytest.mark.parametrize(
    ("prompt", "unknown"),
    [
        ("a red apple", []),
        ("flibbertigibbet, manzana roja", []),  # in pieces that hold something
        ("", []),
        ("7, 50%", []),
        ("a", []),
        ("蘋果", ["蘋果"]),  # no such tokens
        ("水", ["水"]),  # one token, which English never taught anything
        ("яблоко", ["яблоко"]),  # a token a letter
        ("紅色的蘋果 noto style", ["紅色的蘋果"]),
        ("貓 in a very big red house", []),  # most is known
        ("(蘋果:1.2) BREAK <lora:x:1>", ["蘋果"]),
        ("[蘋果:香蕉:0.5]", ["蘋果", "香蕉"]),
        ("蘋果 AND 香蕉", ["蘋果", "香蕉"]),
    ],
)
def test_words_of_an_english_vocabulary_are_told_from_others(
    minilm: Tokens, prompt: str, unknown: list[str]
) -> None:
    assert unknown_words(prompt, minilm, 10) == unknown


def test_words_that_fall_into_single_letters_are_unknown_to_clip() -> None:
    assert unknown_words("abc", CLIP, 10) == ["abc"]
    assert unknown_words("a b", CLIP, 10) == []


@given(st.text())
@example("A\\A")
@example("蘋[果|香]蕉")
@example("蘋(果:1)蕉<lora:x:1>蘋")
def test_unknown_words_are_in_the_prompt(prompt: str) -> None:
    for word in unknown_words(prompt, CLIP, 3):
        if set("\\()[]<").isdisjoint(prompt):
            assert word in prompt
        else:  # what is left without the brackets goes on as one word
            letters = iter(prompt)
            assert all(letter in letters for letter in word)
