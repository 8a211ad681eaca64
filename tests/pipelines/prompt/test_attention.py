import time
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.prompt.attention import BREAK, parse_attention
from tests.pipelines.prompt.automatic1111 import cases

SYNTAX = st.text(alphabet="ab ()[]:\\.0123456789,\nBREAK", max_size=60)


@pytest.mark.parametrize("case", cases("attention"), ids=lambda case: case["text"])
def test_weights_are_those_of_automatic1111(case: dict[str, Any]) -> None:
    assert [list(part) for part in parse_attention(case["text"])] == case["parts"]


@given(st.text(alphabet=st.characters(exclude_characters="()[]\\:"), max_size=80))
def test_text_without_syntax_is_one_part_as_it_stands(text: str) -> None:
    if "BREAK" not in text:
        assert parse_attention(text) == [(text, 1.0)]


@given(SYNTAX)
def test_any_text_is_read_and_neighbours_differ_in_weight(text: str) -> None:
    parts = parse_attention(text)
    assert parts
    assert all(one[1] != other[1] for one, other in pairwise(parts))


@given(SYNTAX)
def test_an_escaped_text_is_that_text(text: str) -> None:
    escaped = "".join("\\" + letter if letter in "()[]\\" else letter for letter in text)
    if "BREAK" not in text:
        assert parse_attention(escaped) == [(text, 1.0)]


def test_a_number_that_is_none_is_words() -> None:
    assert parse_attention("a (b:1..2)") == [("a ", 1.0), ("b:1..2)", 1.1)]
    assert parse_attention(f"(b:{'9' * 400})") == [(f"b:{'9' * 400})", 1.1)]


def test_a_break_in_brackets_is_a_word() -> None:
    assert BREAK in parse_attention("a BREAK b")
    assert BREAK not in parse_attention("(a BREAK b:1.2)")


def test_brackets_without_end_are_read_at_once() -> None:
    start = time.thread_time()
    assert len(parse_attention("(a" * 2500)) == 2500
    assert time.thread_time() - start < 20
