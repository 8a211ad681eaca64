import dataclasses
import random
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.errors import RequestError
from pipelines.prompt.expand import PromptFiles, expand
from pipelines.prompt.wildcards import Wildcards, expand_wildcards
from pipelines.request import GenerationRequest
from tests.pipelines.test_request import RIGHT, requests


def chosen(text: str, seed: int = 0, wildcards: Wildcards | None = None) -> str:
    return expand_wildcards(text, random.Random(seed), wildcards or Wildcards(), 10_000)


def asked(prompt: str, **changes: Any) -> GenerationRequest:
    return GenerationRequest(**(RIGHT | {"prompt": prompt} | changes))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, lines in {
        "colour": "red\n\n# none of these\n green \nblue\n",
        "animal/small": "mouse\n__colour__ bird\n",
        "loop": "__loop__ __loop__\n",
        "empty": "\n# nothing\n",
    }.items():
        file = tmp_path / "wildcards" / f"{name}.txt"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(lines)
    (tmp_path / "styles.csv").write_text(
        "name,prompt,negative_prompt\nink,{prompt} in {black|blue} ink,__colour__\n"
    )
    return tmp_path


def test_each_choice_is_as_likely_as_the_others() -> None:
    counts = Counter(chosen("{a|b|{c|d}}", seed) for seed in range(6000))
    for text, share in {"a": 1 / 3, "b": 1 / 3, "c": 1 / 6, "d": 1 / 6}.items():
        assert abs(counts[text] / 6000 - share) < 0.03


@pytest.mark.parametrize(
    ("text", "possible"),
    [
        ("a {red|blue} {cat|dog}", {"a red cat", "a red dog", "a blue cat", "a blue dog"}),
        ("{a|}", {"a", ""}),
        ("{a}", {"{a}"}),
        ("{{a|b}}", {"{a}", "{b}"}),
        ("{[a|b]|c}", {"[a|b]", "c"}),
        ("[{a|b}|c]", {"[a|c]", "[b|c]"}),
        ("{a|b", {"{a|b"}),
        ("a|b}", {"a|b}"}),
        ("{a|b]}", {"a", "b]"}),
        ("{a[b|c}", {"{a[b|c}"}),
        (r"\{a|b\}", {r"\{a|b\}"}),
        ("a __nothing__ b", {"a __nothing__ b"}),
        ("____ __ __a", {"____ __ __a"}),
    ],
)
def test_what_is_no_choice_stays(text: str, possible: set[str]) -> None:
    assert {chosen(text, seed) for seed in range(60)} == possible


@given(st.text(alphabet=r"ab_{}[]\ ", max_size=40))
def test_without_a_bar_nothing_is_chosen(text: str) -> None:
    assert chosen(text) == text


@given(st.text(alphabet="ab_{}[]|\\ ", max_size=40), st.integers(0, 5))
def test_any_text_is_read_and_what_is_chosen_stays_chosen(text: str, seed: int) -> None:
    once = chosen(text, seed)
    assert chosen(once, seed + 1) == once


def test_a_wildcard_is_a_line_of_its_file(folder: Path) -> None:
    wildcards = PromptFiles(folder).wildcards()
    assert {chosen("__colour__", seed, wildcards) for seed in range(60)} == {"red", "green", "blue"}
    birds = {chosen("__animal/small__", seed, wildcards) for seed in range(60)}
    assert birds == {"mouse", "red bird", "green bird", "blue bird"}
    assert wildcards.unknown("__colour__ __empty__ __nothing__ __nothing__") == ["empty", "nothing"]


def test_a_wildcard_reaches_no_file_outside_its_folder(folder: Path) -> None:
    (folder / "secret.txt").write_text("secret\n")
    wildcards = PromptFiles(folder).wildcards()
    for name in ("../secret", "/secret", "colour/../../secret", f"{folder}/secret"):
        assert chosen(f"__{name}__", 0, wildcards) == f"__{name}__"


def test_a_wildcard_that_names_itself_comes_to_an_end(folder: Path) -> None:
    with pytest.raises(RequestError, match="at most 10000"):
        expand(asked("__loop__"), PromptFiles(folder))


def test_the_words_of_a_picture_hang_on_its_own_seed_alone(folder: Path) -> None:
    files = PromptFiles(folder)
    eight = expand(asked("a {red|blue} __animal/small__", count=8, seed=3), files)
    assert len({picture.prompt for picture in eight}) > 2
    for index, picture in enumerate(eight):
        assert expand(asked("a {red|blue} __animal/small__", seed=3 + index), files) == (picture,)
        assert (picture.seed, picture.count) == (3 + index, 1)
        assert picture.template == "a {red|blue} __animal/small__"
        assert picture.as_typed() == asked("a {red|blue} __animal/small__", seed=3 + index)


def test_styles_come_before_wildcards(folder: Path) -> None:
    files = PromptFiles(folder)
    pictures = expand(asked("a {cat|dog}", styles=["ink"], count=30), files)
    found = {picture.prompt for picture in pictures}
    assert found == {f"a {animal} in {ink} ink" for animal in ("cat", "dog") for ink in ("black", "blue")}
    assert {picture.negative_prompt for picture in pictures} == {"red", "green", "blue"}
    # The negative prompt draws for itself.
    alone = expand(asked("a cat", negative_prompt="__colour__", count=30), files)
    assert [one.negative_prompt for one in alone] == [one.negative_prompt for one in pictures]
    with pytest.raises(RequestError, match='no style "inkk"'):
        expand(asked("a cat", styles=["inkk"]), files)


def test_what_was_expanded_is_drawn_as_it_is(folder: Path) -> None:
    (picture,) = expand(asked("{a __colour__|b __colour__}"), PromptFiles(folder))
    (folder / "wildcards" / "colour.txt").write_text("pink\n")
    assert expand(picture, PromptFiles(folder)) == (picture,)
    assert GenerationRequest.from_json(picture.to_json()) == picture


@given(requests())
def test_a_prompt_without_choices_is_the_request_itself(request: GenerationRequest) -> None:
    plain = dataclasses.replace(
        request.resolve(), prompt="a red apple", negative_prompt="a (dog)", styles=(), template=None, count=2
    )
    assert expand(plain, PromptFiles()) == (plain.for_image(0), plain.for_image(1))


def test_a_wildcard_leads_nowhere_but_into_its_folder(tmp_path: Path) -> None:
    (tmp_path / "outside.txt").write_text("a secret\n")
    folder = tmp_path / "wildcards"
    (folder / "birds").mkdir(parents=True)
    (folder / "birds/small.txt").write_text("wren\n")
    (folder / "link.txt").symlink_to("../outside.txt")
    wildcards = Wildcards(folder)
    assert wildcards.choices("birds/small") == ["wren"]
    for name in ("link", "../outside", str(tmp_path / "outside"), "birds/../../outside", "con", "a\0"):
        assert wildcards.choices(name) == []
