from pathlib import Path

import pytest
import torch

from models.folder import load_model
from models.text_encoder import TextEncoder
from pipelines.inside.words import word_maps, words_of, words_of_picture
from pipelines.prompt.encode import PromptEncoder
from tests.stock import make_stock_model
from tests.tiny import SIDE_PIXELS, tiny_text_encoder


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> TextEncoder:
    return TextEncoder.from_folder(make_stock_model(tmp_path_factory.mktemp("models") / "stock"))


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("a red apple", [("a", (1,)), ("red", (2,)), ("apple", (3,))]),
        ("a rex, apple", [("a", (1,)), ("rex", (2, 3, 4)), (",", (5,)), ("apple", (6,))]),
        ("a (red:1.3) apple", [("a", (1,)), ("red", (2,)), ("apple", (3,))]),
        ("red BREAK apple", [("red", (1,)), ("apple", (4,))]),  # begin, red, end, begin, apple
        ("", []),
    ],
)
def test_word_pieces_are_joined(prompt: str, expected: list[tuple[str, tuple[int, ...]]]) -> None:
    found = words_of(tiny_text_encoder(), prompt)
    assert [(word.text, word.places) for word in found] == expected


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("red cat", [("red", (1, 2, 3)), ("cat", (4, 5, 6))]),
        ("red BREAK cat", [("red", (1, 2, 3)), ("cat", (13, 14, 15))]),  # a chunk is 12 tokens, padded
    ],
)
def test_bytes_of_clip_are_joined(
    clip: TextEncoder, prompt: str, expected: list[tuple[str, tuple[int, ...]]]
) -> None:
    found = words_of(clip, prompt)
    assert [(word.text, word.places) for word in found] == expected
    assert all(
        place < PromptEncoder(clip).encode(prompt).mask.shape[1] for word in found for place in word.places
    )


def test_the_starters_tokenizer_reads_words_in_pieces() -> None:
    starter = TextEncoder.from_folder(Path(__file__).parents[3] / "checkpoints" / "starter")
    found = words_of(starter, "glowing star on a orange background, emojione style")
    assert [word.text for word in found] == [
        "glowing", "star", "on", "a", "orange", "background", ",", "emojione", "style",
    ]  # fmt: skip
    assert len(found[-2].places) > 1


def test_a_word_has_what_its_tokens_have_together() -> None:
    maps = torch.rand(8, 4, 4)
    words = words_of(tiny_text_encoder(), "a rex, apple")
    found = word_maps(maps, words)
    torch.testing.assert_close(found[1], maps[2] + maps[3] + maps[4])
    assert word_maps(maps, []).shape == (0, 4, 4)


def test_a_caption_has_maps_over_a_real_picture(tiny_model_folder: Path) -> None:
    model = load_model(tiny_model_folder)
    pixels = torch.rand(1, 3, SIDE_PIXELS, SIDE_PIXELS) * 2 - 1
    words, maps = words_of_picture(model, pixels, "a red apple")
    assert [word.text for word in words] == ["a", "red", "apple"]
    assert maps.shape == (3, 4, 4)
    assert (maps > 0).all()
    assert (maps.sum(0) < 1).all()  # begin and end have the rest
    other = words_of_picture(model, -pixels, "a red apple")[1]
    assert not torch.equal(maps, other)
