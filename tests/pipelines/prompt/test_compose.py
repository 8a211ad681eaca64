from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.prompt.compose import split_composition
from tests.pipelines.prompt.automatic1111 import cases


@pytest.mark.parametrize("case", cases("and"), ids=lambda case: case["text"])
def test_the_prompts_of_a_composition_are_those_of_automatic1111(case: dict[str, Any]) -> None:
    assert [list(part) for part in split_composition(case["text"])] == case["subprompts"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a cat : 1.5 ", [("a cat", 1.5)]),
        ("a :0.5 AND b: -.5", [("a", 0.5), (" b", -0.5)]),
        ("(a:1.2)", [("(a:1.2)", 1.0)]),
        ("a:b:2.", [("a:b", 2.0)]),
        ("a:1..2", [("a:1..2", 1.0)]),
        ("a:", [("a:", 1.0)]),
        ("ANDREW BAND", [("ANDREW BAND", 1.0)]),
        ("", [("", 1.0)]),
        ("a AND", [("a", 1.0), ("", 1.0)]),
        ("a:" + "9" * 400, [("a:" + "9" * 400, 1.0)]),
        ("a:²", [("a:²", 1.0)]),
    ],
)
def test_only_a_number_at_the_end_is_a_weight(text: str, expected: list[tuple[str, float]]) -> None:
    assert split_composition(text) == expected


@given(st.text())
def test_any_text_is_read(text: str) -> None:
    assert split_composition(text)
