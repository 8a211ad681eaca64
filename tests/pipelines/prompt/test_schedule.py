import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.prompt.schedule import schedule, text_at
from tests.pipelines.prompt.automatic1111 import cases

SYNTAX = st.text(alphabet="ab ()[]:|\\.0123456789e-+\n", max_size=60)
STEPS = st.integers(1, 12)


@pytest.mark.parametrize("case", cases("schedule"), ids=lambda case: case["text"])
def test_schedules_are_those_of_automatic1111(case: dict[str, Any]) -> None:
    assert [list(entry) for entry in schedule(case["text"], case["steps"])] == case["entries"]


@pytest.mark.parametrize("case", cases("schedule_hires_pass"), ids=lambda case: case["text"])
def test_a_second_pass_goes_on_where_the_first_ended(case: dict[str, Any]) -> None:
    found = schedule(case["text"], case["hires_steps"], case["base_steps"])
    assert [list(entry) for entry in found] == case["entries"]


def test_a_second_pass_changes_at_its_own_steps() -> None:
    assert schedule("[a:b:15]", 10, 10) == [(5, "a"), (10, "b")]
    assert schedule("[a:b:1.3]", 10, 10) == [(3, "a"), (10, "b")]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[a:b:0]", [(10, "b")]),
        ("[a:b:-3]", [(10, "b")]),
        ("[a:b:99]", [(10, "a")]),
        ("[a:b:1.0]", [(10, "a")]),
        ("[a:b:1e400]", [(10, "a")]),
        ("[a:b:9.9e307]", [(10, "a")]),
        ("[a:b:5.]", [(10, "a")]),
        ("[::3]", [(3, ""), (10, "")]),
        ("[a:b]", [(10, "[a:b]")]),
        ("[a:b:c:3]", [(10, "[a:b:c:3]")]),
        ("[a:b:3 x]", [(10, "[a:b:3 x]")]),
        (r"\[a:b:3]", [(10, r"\[a:b:3]")]),
        (r"[a\]:b:3]", [(3, r"a\]"), (10, "b")]),
        ("[a:b:3] [c:d:3", [(3, "a [c:d:3"), (10, "b [c:d:3")]),
        ("[a:b:3] |", [(10, "[a:b:3] |")]),
        ("[a:b:3] \\", [(10, "[a:b:3] \\")]),
        ("([a:b:3]:1.2)", [(3, "(a:1.2)"), (10, "(b:1.2)")]),
        ("[(a|b):c:3]", [(10, "[(a|b):c:3]")]),
        ("[a : b : 3 ]", [(3, "a "), (10, " b ")]),
    ],
)
def test_what_is_no_bracket_of_the_grammar_stays_as_it_is(text: str, expected: list[tuple[int, str]]) -> None:
    assert schedule(text, 10) == expected


@given(SYNTAX, STEPS)
def test_any_text_is_read_and_every_step_has_words(text: str, steps: int) -> None:
    entries = schedule(text, steps)
    ends = [end for end, _ in entries]
    assert ends == sorted(set(ends))
    assert ends[-1] == steps
    assert ends[0] >= 1
    assert [text_at(entries, step) for step in range(1, steps + 1)]


@given(st.text(alphabet=st.characters(exclude_characters="[]|\\"), max_size=60), STEPS)
def test_text_without_square_brackets_never_changes(text: str, steps: int) -> None:
    assert schedule(text, steps) == [(steps, text)]


WORDS = st.sampled_from(["a", "b c", "(d)", "(e:1.2)", "", "f, g"])
NUMBERS = st.integers(-2, 12).map(str) | st.floats(0, 1).map(lambda part: f"{part:.3f}")


def changing(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.tuples(st.just(":"), inner, inner, NUMBERS) | st.tuples(
        st.just("|"), st.lists(inner, min_size=2, max_size=3)
    )


TREES = st.recursive(WORDS, lambda inner: changing(inner) | st.lists(inner, max_size=3), max_leaves=8)


def written(tree: Any) -> str:
    match tree:
        case str():
            return tree
        case (":", before, after, number):
            return f"[{written(before)}:{written(after)}:{number}]"
        case ("|", options):
            return f"[{'|'.join(map(written, options))}]"
        case _:
            return "".join(map(written, tree))


def meant(tree: Any, step: int, steps: int) -> str:
    match tree:
        case str():
            return tree
        case (":", before, after, number):
            when = int(float(number) * steps) if "." in number else int(number)
            return meant(before if step <= when else after, step, steps)
        case ("|", options):
            return meant(options[(step - 1) % len(options)], step, steps)
        case _:
            return "".join(meant(one, step, steps) for one in tree)


@given(TREES, STEPS)
def test_every_step_has_the_words_that_are_meant(tree: Any, steps: int) -> None:
    entries = schedule(written(tree), steps)
    for step in range(1, steps + 1):
        assert text_at(entries, step) == meant(tree, step, steps)


def test_no_depth_is_too_deep() -> None:
    start = time.thread_time()
    deep = "[" * 2000 + "a" + ":b:3]" * 2000
    assert schedule(deep, 10) == [(3, "a"), (10, "b")]
    assert schedule("[" * 5000 + "|" * 5000, 10) == [(10, "[" * 5000 + "|" * 5000)]
    assert schedule("(" * 10_000, 10) == [(10, "(" * 10_000)]
    assert time.thread_time() - start < 20
