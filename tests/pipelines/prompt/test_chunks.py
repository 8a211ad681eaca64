import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.errors import ModelError
from pipelines.prompt.attention import parse_attention
from pipelines.prompt.chunks import TokenCount, Tokens, count_tokens
from tests.models.families import family_tokenizer
from tests.tiny import make_tiny_model, tiny_tokenizer

BERT = Tokens(tiny_tokenizer(8), 8, continues=False)  # six tokens between begin and end
CLIP = Tokens(family_tokenizer("clip_text_model"), 12, continues=True)  # ten, a letter each


def letters(tokens: Tokens, text: str) -> list[str]:
    """The chunks of a text, as one letter a token."""
    vocabulary = {number: token for token, number in tokens._tokenizer.get_vocab().items()}
    chunks = tokens.read(parse_attention(text)).chunks
    return ["".join(vocabulary[token.number].removesuffix("</w>") for token in chunk) for chunk in chunks]


@pytest.mark.parametrize(
    ("text", "chunks"),
    [
        ("", [""]),
        ("abcdefghij", ["abcdefghij"]),
        ("abcdefghijk", ["abcdefghij", "k"]),
        ("abc, defghijk", ["abc,", "defghijk"]),  # the words since the comma go on together
        ("abc, defghij", ["abc,", "defghij"]),
        ("abc, defghi,", ["abc, defghi".replace(" ", ""), ","]),  # a comma itself does not
        ("abcdefghi, jk", ["abcdefghi,", "jk"]),
        ("a BREAK b", ["a", "b"]),
        ("a BREAK BREAK b", ["a", "", "b"]),
        ("BREAK a", ["", "a"]),
        ("a BREAK", ["a"]),
        ("BREAK", [""]),
        ("abcde (fghij:1.2)kl", ["abcdefghij", "kl"]),
    ],
)
def test_clip_reads_a_long_prompt_in_chunks(text: str, chunks: list[str]) -> None:
    assert letters(CLIP, text) == chunks


def test_a_comma_too_far_back_is_not_gone_back_to() -> None:
    clip = Tokens(family_tokenizer("clip_text_model"), 32, continues=True)
    near, far = "x" * 10 + ",", "x" * 9 + ","
    assert letters(clip, near + "y" * 20) == [near, "y" * 20]
    assert letters(clip, far + "y" * 21) == [far + "y" * 20, "y"]


def test_each_token_has_the_weight_of_its_part() -> None:
    (chunk,) = CLIP.read(parse_attention("ab (cd:1.5) [e]")).chunks
    assert [token.weight for token in chunk] == [1, 1, 1.5, 1.5, 1 / 1.1]


def test_other_encoders_cut_and_tell_what() -> None:
    read = BERT.read(parse_attention("red dog cat (red:1.2) dog cat blue, apple"))
    assert [len(chunk) for chunk in read.chunks] == [6]
    assert (read.cut, read.cut_tokens) == ("blue, apple", 3)
    both = BERT.read(parse_attention("red dog cat red dog cat blue BREAK apple"))
    assert [len(chunk) for chunk in both.chunks] == [6, 1]
    assert both.cut == "blue"


LETTERS = st.text(alphabet="abc ,", max_size=60)


@given(LETTERS)
def test_no_chunk_is_too_long_and_nothing_is_lost(text: str) -> None:
    chunks = letters(CLIP, text)
    assert "".join(chunks) == text.replace(" ", "")
    assert all(len(chunk) <= CLIP.size for chunk in chunks)
    read = BERT.read(parse_attention(text))
    whole = BERT._tokenize(text, add_special_tokens=False)["input_ids"]
    assert [token.number for token in read.chunks[0]] == whole[: BERT.size]
    assert read.cut_tokens == max(0, len(whole) - BERT.size)


@pytest.mark.parametrize(
    ("prompt", "tokens", "count"),
    [
        ("a red apple", BERT, (3, 6, "")),
        ("", BERT, (0, 6, "")),
        ("red dog cat red dog cat blue", BERT, (7, 6, "blue")),
        ("a <lora:dog:0.5>", BERT, (1, 6, "")),
        ("a dog AND a red dog", BERT, (3, 6, "")),
        ("a [dog:dog red dog:0.5]", BERT, (4, 6, "")),
        ("[dog:dog cat dog cat dog cat red:10]", BERT, (7, 6, "red")),
        ("abcdefghijk", CLIP, (11, 20, "")),
        ("a BREAK b", CLIP, (11, 20, "")),
    ],
)
def test_the_count_is_of_the_longest_that_is_read(
    prompt: str, tokens: Tokens, count: tuple[Any, ...]
) -> None:
    assert count_tokens(prompt, tokens, 20) == TokenCount(*count)


def test_in_a_negative_prompt_and_is_a_word() -> None:
    assert count_tokens("a AND a", BERT, 20).count == 1
    assert count_tokens("a AND a", BERT, 20, composed=False).count > 2


def test_a_model_folder_is_enough_to_count(tiny_model_folder: Path, tmp_path: Path) -> None:
    tokens = Tokens.from_folder(tiny_model_folder)
    assert tokens is not None
    assert (tokens.size, tokens.continues) == (14, False)
    assert Tokens.from_folder(make_tiny_model(tmp_path / "classes", classes=["cat"])) is None
    (tmp_path / "text_encoder").mkdir()
    for config in ('{"model_type": "bert"}', '{"model_type": "gpt2"}', "{"):
        (tmp_path / "text_encoder" / "config.json").write_text(config)
        with pytest.raises(ModelError):
            Tokens.from_folder(tmp_path)


def test_tokens_are_counted_without_torch(tiny_model_folder: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from pipelines.prompt.chunks import Tokens; "
        f"assert Tokens.from_folder(Path({str(tiny_model_folder)!r})); sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
