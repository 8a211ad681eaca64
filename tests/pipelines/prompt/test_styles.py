from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.errors import RequestError
from pipelines.prompt.styles import Style, apply_styles, find_style, read_styles, remove_style
from tests.pipelines.prompt.automatic1111 import cases

INK = Style(name="ink", prompt="ink drawing of {prompt}, black", negative_prompt="colour")
SHARP = Style(name="sharp", prompt="sharp")


@pytest.mark.parametrize("case", cases("styles_extract"), ids=lambda case: case["style"])
def test_a_style_is_found_in_a_prompt_as_automatic1111_finds_it(case: dict[str, Any]) -> None:
    assert list(remove_style(case["style"], case["prompt"])) == case["expect"]


def test_words_go_around_or_behind_the_prompt_in_the_order_of_the_styles() -> None:
    assert apply_styles("a cat", "", [INK, SHARP]) == ("ink drawing of a cat, black, sharp", "colour")
    assert apply_styles("a cat", "a dog", [SHARP, INK]) == (
        "ink drawing of a cat, sharp, black",
        "a dog, colour",
    )
    assert apply_styles(" a cat ", "", [Style(name="none")]) == (" a cat ", "")


WORDS = st.text(st.characters(categories=["L"]), min_size=1)


@given(WORDS, WORDS, WORDS)
def test_what_a_style_adds_is_taken_off_again(prompt: str, before: str, after: str) -> None:
    for words in (after, f"{before} {{prompt}}, {after}"):
        styled, _ = apply_styles(prompt, "", [Style(name="x", prompt=words)])
        assert remove_style(words, styled) == (True, prompt)


def test_automatic1111s_file_is_read(tmp_path: Path) -> None:
    file = tmp_path / "styles.csv"
    file.write_text(
        "\ufeffname,prompt,negative_prompt\n"
        'ink,"ink drawing of {prompt}, black",colour\n,nameless,\nsharp,sharp,\nlines,"a\nb",\n',
        encoding="utf-8",
    )
    styles = read_styles(file)
    assert list(styles) == ["ink", "sharp", "lines"]
    assert (styles["ink"], styles["sharp"]) == (INK, SHARP)
    assert styles["lines"].prompt == "a\nb"
    file.write_text("name,text\nold,the old column\n")
    assert read_styles(file)["old"].prompt == "the old column"
    assert read_styles(tmp_path / "none.csv") == {}


def test_a_file_that_is_no_text_is_told(tmp_path: Path) -> None:
    (tmp_path / "styles.csv").write_bytes(b"\xff\xfe\x00\xd8")
    with pytest.raises(RequestError, match="UTF-8"):
        read_styles(tmp_path / "styles.csv")


def test_an_unknown_style_is_answered_with_the_nearest() -> None:
    assert find_style({"ink": INK}, "ink") is INK
    with pytest.raises(RequestError, match='no style "inc"; did you mean "ink"'):
        find_style({"ink": INK, "sharp": SHARP}, "inc")
    with pytest.raises(RequestError, match="none yet"):
        find_style({}, "ink")
