import json

import pytest

from models.single_file.checkpoint import TOKENIZER
from models.text_families import FAMILIES, read_tokenizer


def test_the_vocabulary_is_made_of_the_merges() -> None:
    vocabulary = json.loads((TOKENIZER / "vocab.json").read_text(encoding="utf-8"))
    merges = (TOKENIZER / "merges.txt").read_text(encoding="utf-8").splitlines()[1:]
    letters = [token for token, number in vocabulary.items() if number < 256]
    made = [*letters, *(f"{letter}</w>" for letter in letters), *("".join(pair.split()) for pair in merges)]
    assert list(vocabulary) == [*made, "<|startoftext|>", "<|endoftext|>"]
    assert list(vocabulary.values()) == list(range(49408))


# By OpenAI's own tokenizer, as https://github.com/openai/CLIP and open_clip's SimpleTokenizer have it.
@pytest.mark.parametrize(
    ("words", "numbers"),
    [
        ("a photo of a cat", [320, 1125, 539, 320, 2368]),
        ("", []),
        ("A Photo,  of a CAT!", [320, 1125, 267, 539, 320, 2368, 256]),
        ("it's 42 caf\u00e9s", None),
    ],
)
def test_words_have_the_numbers_of_openais_clip(words: str, numbers: list[int] | None) -> None:
    tokenizer = read_tokenizer(TOKENIZER, FAMILIES["clip_text_model"])
    found = tokenizer(words)["input_ids"]
    assert (found[0], found[-1]) == (49406, 49407)
    if numbers is not None:
        assert found[1:-1] == numbers
    assert tokenizer.model_max_length == 77
