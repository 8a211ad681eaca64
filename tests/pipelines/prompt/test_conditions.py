import pytest
import torch

from models.text_encoder import TextStates
from pipelines.prompt.conditions import Composition, Term, conditions, literal, read_negative, read_prompt


def encode(text: str) -> TextStates:
    """A state a letter."""
    hidden = torch.tensor([[[float(ord(letter))] for letter in text or " "]])
    return TextStates(hidden, torch.ones(hidden.shape[:2], dtype=torch.bool), hidden.mean(1))


def words(states: TextStates) -> list[str]:
    return [
        "".join(chr(int(value)) for value in row[mask, 0])
        for row, mask in zip(states.hidden, states.mask, strict=True)
    ]


def test_one_prompt_is_encoded_once_and_shared() -> None:
    shared = conditions([read_prompt("a cat", 5)] * 3, encode)
    assert isinstance(shared, TextStates)
    assert len(shared) == 1


def test_states_follow_the_steps() -> None:
    encoded: list[str] = []

    def counting(text: str) -> TextStates:
        encoded.append(text)
        return encode(text)

    by_step = conditions([read_prompt(text, 4) for text in ("[a|b]", "[cc:d:2]")], counting)
    assert callable(by_step)
    found = []
    for step in (1, 2, 3, 4):
        states = by_step(step)
        assert isinstance(states, TextStates)
        found.append(words(states))
    assert found == [["a", "cc"], ["b", "cc"], ["a", "d"], ["b", "d"]]
    assert sorted(encoded) == ["a", "b", "cc", "d"]


def test_a_composition_names_the_picture_and_the_weight_of_each_row() -> None:
    by_step = conditions([read_prompt("a AND b:0.5", 2), read_prompt("c", 2)], encode)
    assert callable(by_step)
    composed = by_step(1)
    assert isinstance(composed, Composition)
    assert words(composed.states) == ["a", " b", "c"]
    assert composed.pictures.tolist() == [0, 0, 1]
    assert composed.weights.tolist() == [1.0, 0.5, 1.0]


@pytest.mark.parametrize("text", ["a AND b", "[a|b]", "<lora:x:1>"])
def test_a_literal_text_has_no_syntax(text: str) -> None:
    assert literal(text, 3) == (Term(((3, text),)),)


def test_a_negative_prompt_changes_by_step_but_is_not_composed() -> None:
    assert read_negative("[a:b:1] AND c", 2) == (Term(((1, "a AND c"), (2, "b AND c"))),)
