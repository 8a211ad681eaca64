"""The page's words in every language: none is missing, none loses a placeholder, all read their own."""

import ast
import re
import string
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app import language, text
from app.context import open_context
from app.page import build_page
from app.settings import Settings
from tests.app.engines import PacedEngine

ROOT = Path(__file__).parents[2]
OTHERS = [tag for tag in language.LANGUAGES if tag != language.ENGLISH]
ENGLISH: dict[str, Any] = {name: value for name, value in vars(text).items() if name.isupper()}


def parts(value: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """Every sentence of a constant, under a path that is the same in all languages."""
    if isinstance(value, str):
        yield path, value
    elif isinstance(value, dict):
        for number, (key, words) in enumerate(value.items()):
            if "<kbd>" in key:  # a key of the keyboard in a sentence
                yield f"{path}[{number}]", key
                key = str(number)
            yield from parts(words, f"{path}.{key}")
    else:
        for number, words in enumerate(value):
            yield from parts(words, f"{path}[{number}]")


def fields(words: str) -> list[tuple[str, str | None]]:
    if "%Y" in words:  # of a date
        return sorted((found, None) for found in re.findall(r"%[YHM]|%[bm]|%d", words.replace("%b", "%m")))
    return sorted((name, form) for _, name, form, _ in string.Formatter().parse(words) if name is not None)


@pytest.mark.parametrize("tag", OTHERS)
def test_every_word_of_the_page_is_translated_and_nothing_else_is(tag: str) -> None:
    translated = language.translation(tag)
    missing, left_over = ENGLISH.keys() - translated.keys(), translated.keys() - ENGLISH.keys()
    assert not missing, f"app/languages/{tag}.json lacks these names of app/text/: {sorted(missing)}"
    assert not left_over, f"app/languages/{tag}.json has names that app/text/ lacks: {sorted(left_over)}"
    assert list(translated) == list(ENGLISH), "not in the order of app/text/"


@pytest.mark.parametrize("tag", OTHERS)
def test_a_translation_has_the_shape_placeholders_and_marks_of_the_english(tag: str) -> None:
    for name, english in ENGLISH.items():
        here, there = dict(parts(english, name)), dict(parts(language.translation(tag)[name], name))
        assert here.keys() == there.keys(), name
        for path, words in here.items():
            assert fields(there[path]) == fields(words), path
            for mark in (r"</?\w+", r"<kbd>.*?</kbd>"):
                assert sorted(re.findall(mark, there[path])) == sorted(re.findall(mark, words)), path
            assert there[path].strip() == there[path] != "", path


def test_chinese_is_written_with_full_width_signs_and_without_simplified_characters() -> None:
    for name, value in language.translation("zh-TW").items():
        for path, words in parts(value):
            assert not re.search(r"[\u4e00-\u9fff][,;:!?]|[,;!?][\u4e00-\u9fff]", words), (name + path, words)
            # Big5 holds what is written in Taiwan; characters of the simplified set are not in it.
            chinese = "".join(re.findall(r"[\u4e00-\u9fff]", words))
            assert chinese.encode("big5").decode("big5") == chinese


@pytest.mark.parametrize(
    ("accepted", "cookie", "expected"),
    [
        ("zh-TW,zh;q=0.9,en-US;q=0.8,en;q=0.7", "", "zh-TW"),
        ("zh-HK", "", "zh-TW"),
        ("zh-Hant-MO,en", "", "zh-TW"),
        ("zh-CN,zh;q=0.9", "", "en"),
        ("zh", "", "en"),
        ("en-GB,zh-TW;q=0.9", "", "en"),
        ("zh-TW;q=0.3,en;q=0.9", "", "en"),
        ("de-DE,de;q=0.9,zh-TW;q=0.5", "", "zh-TW"),
        ("", "", "en"),
        ("en", "latent_studio_language=zh-TW", "zh-TW"),
        ("zh-TW", "other=1; latent_studio_language=en", "en"),
        ("zh-TW", "latent_studio_language=../../etc/passwd", "zh-TW"),
        ("zh-TW;q=much", "", "zh-TW"),
        ("en", 'theirs={"a": [1, 2]}; latent_studio_language=zh-TW', "zh-TW"),
    ],
)
def test_the_language_is_the_chosen_one_or_the_first_that_the_browser_asks_for(
    accepted: str, cookie: str, expected: str
) -> None:
    assert language.wanted({"accept-language": accepted, "cookie": cookie}) == expected


@given(accepted=st.text(), cookie=st.text())
def test_no_header_is_too_strange(accepted: str, cookie: str) -> None:
    assert language.wanted({"accept-language": accepted, "cookie": cookie}) in language.LANGUAGES


def test_constants_and_functions_of_the_words_follow_the_language() -> None:
    assert (text.GENERATE, text.done(2, 200)) == ("Generate", "2 pictures in 3 min 20 s")
    with language.speaking("zh-TW"):
        assert (text.GENERATE, text.done(2, 200)) == ("產生", "2 張圖片\N{FULLWIDTH COMMA}耗時 3 分 20 秒")
        assert text.seconds_left(3.2) == "3 秒"
    assert text.GENERATE == "Generate"


def test_two_threads_do_not_hear_each_other() -> None:
    both, heard = threading.Barrier(2), {}

    def hear(tag: str) -> None:
        with language.speaking(tag):
            both.wait()
            heard[tag] = text.STOP
            both.wait()

    threads = [threading.Thread(target=hear, args=(tag,)) for tag in ("en", "zh-TW")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert heard == {"en": "Stop", "zh-TW": "停止"}


def test_no_word_is_taken_while_a_module_is_imported() -> None:
    """What is read once stays in one language: constants of modules and classes, defaults, decorators."""
    early = []
    for path in sorted((ROOT / "app").rglob("*.py")):
        for node in at_import(ast.parse(path.read_text(encoding="utf-8"))):
            word = (
                isinstance(node, ast.Attribute)
                and isinstance(node.value, ast.Name)
                and node.value.id == "text"
            )
            named = isinstance(node, ast.ImportFrom) and node.module == "app.text"
            if (word and node.attr.isupper()) or named:  # type: ignore[attr-defined]
                early.append(f"{path.relative_to(ROOT)}:{node.lineno}")  # type: ignore[attr-defined]
    assert early == []


def at_import(node: ast.AST) -> Iterator[ast.AST]:
    """What of a module is executed when it is imported, and all of its imports."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            yield from (found for found in ast.walk(child) if isinstance(found, ast.ImportFrom))
            defaults = [*child.args.defaults, *child.args.kw_defaults, *getattr(child, "decorator_list", ())]
            for default in filter(None, defaults):
                yield from ast.walk(default)
        else:
            yield child
            yield from at_import(child)


def words_and_rest(one: Any, other: Any, path: str = "") -> Iterator[str]:
    """The places in which two configurations differ otherwise than in words."""
    if isinstance(one, dict) and isinstance(other, dict) and one.keys() == other.keys():
        for key in one:
            yield from words_and_rest(one[key], other[key], f"{path}.{key}")
    elif isinstance(one, list | tuple) and isinstance(other, list | tuple) and len(one) == len(other):
        for number, pair in enumerate(zip(one, other, strict=True)):
            yield from words_and_rest(*pair, f"{path}[{number}]")
    elif one != other and not (isinstance(one, str) and isinstance(other, str)):
        yield path


@pytest.fixture
def page(tmp_path: Path, tiny_model_folder: Path) -> Iterator[Any]:
    context = open_context([tiny_model_folder], PacedEngine, settings=Settings(outputs=tmp_path))
    yield build_page(context)[0]
    context.close()


@pytest.mark.parametrize("tag", OTHERS)
def test_the_page_is_the_same_in_all_languages_but_for_its_words(page: Any, tag: str) -> None:
    english = page.config
    with language.speaking(tag):
        other = page.config
    assert list(words_and_rest(english["components"], other["components"])) == []
    assert {**english, "components": 0, "head": 0} == {**other, "components": 0, "head": 0}
    assert english["head"].endswith('("en")</script>')
    assert other["head"].endswith(f'("{tag}")</script>')
    for one, two in zip(english["components"], other["components"], strict=True):
        # What a control sends is a value, which the handlers know; only its label is in a language.
        values = [[value for _, value in it["props"].get("choices") or []] for it in (one, two)]
        assert values[0] == values[1], one["props"].get("elem_id")
    labels = [[it["props"].get("label") for it in config["components"]] for config in (english, other)]
    assert "Prompt" in labels[0]
    assert "提示詞" in labels[1]
