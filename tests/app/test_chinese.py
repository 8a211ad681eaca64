"""Chinese prompts become captions of the kind that the starter was trained on."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app import chinese
from app.chinese import COLOURS, Dictionary, Read, read
from app.counter import token_line
from models.errors import ModelError
from pipelines.prompt.expand import PromptFiles
from training.data import starter
from training.data.captions import PLAIN, single
from training.data.chinese import EVERYDAY, dictionary
from training.data.colours import BACKGROUNDS
from training.data.emoji import STYLES, Concept

STARTER = Path(__file__).parents[2] / "checkpoints" / "starter"
CONTENT = json.loads((STARTER / chinese.FILE).read_text(encoding="utf-8"))
WORDS = Dictionary(CONTENT)


@pytest.mark.parametrize(
    ("prompt", "caption"),
    [
        ("蘋果", "a red apple"),
        ("苹果", "a red apple"),
        ("紅色的蘋果在白色背景", "a red apple"),  # captions do not mention white
        ("蘋果是綠色的", "a green apple"),
        ("藍色背景上的帆船", "a sailboat on a blue background"),
        ("苹果在蓝色背景上", "a red apple on a blue background"),
        ("背景是藍色的貓", "a cat on a blue background"),
        ("紫色的章魚", "an octopus, purple"),
        ("開心的貓", "a happy cat"),
        ("黑貓", "a black cat"),
        ("綠色的青蛙\N{FULLWIDTH COMMA}立體風格", "a frog, green, fluent 3d style"),
        ("笑臉, twemoji 風格", "a grinning face, twemoji style"),
        ("狗在蘋果的左邊", "a dog left of a red apple"),
        ("蘋果左邊是狗", "a dog left of a red apple"),
        ("太陽在房子上面", "a sun above a house"),
        ("a cat 在藍色背景", "a cat on a blue background"),
        ("(披薩:1.2) BREAK [貓|狗]", "(a pizza:1.2) BREAK [a cat|a dog]"),  # the prompt language stays
    ],
)
def test_known_words_become_the_caption(prompt: str, caption: str) -> None:
    assert read(STARTER, prompt) == Read(caption, (), ())


def test_what_is_not_known_is_told() -> None:
    assert read(STARTER, "一隻漂亮的貓") == Read("a cat", ("漂亮",), ())
    assert read(STARTER, "紅鶴和貓") == Read("a flamingo, a cat", (), ("flamingo",))
    for prompt in ("量子力學", "a red apple", "", "яблоко"):
        assert read(STARTER, prompt) is None


def test_a_caption_is_spelled_as_in_training() -> None:
    class First:
        def sample(self, words: list[str], count: int) -> list[str]:
            return words[:count]

    for english in BACKGROUNDS:
        where = f"{COLOURS[english].split()[0]}背景"
        made = single(Concept("frog", (), 3), "noto", First(), english)  # type: ignore[arg-type]
        assert read(STARTER, f"青蛙在{where}, noto風格").caption == made[1]  # type: ignore[union-attr]
    assert read(STARTER, "青蛙").caption == single(Concept("frog", (), 3), "noto", First(), PLAIN)[3]  # type: ignore


@given(
    words=st.lists(
        st.sampled_from(sorted({*WORDS.names, *WORDS.keywords, *WORDS.small})), min_size=1, max_size=6
    ),
    between=st.sampled_from(["", "的", "和", ", ", "\N{FULLWIDTH COMMA}"]),
)
def test_known_words_leave_no_chinese_in_a_caption_which_is_then_left_alone(
    words: list[str], between: str
) -> None:
    found = WORDS.read(between.join(words))
    if found is not None:
        assert not chinese.RUN.search(found.caption)
        assert WORDS.read(found.caption) is None
        assert found.caption == " ".join(found.caption.split())


@given(st.text())
def test_any_text_can_be_read(prompt: str) -> None:
    found = WORDS.read(prompt)
    assert found is None or not chinese.RUN.search(found.caption)


def test_the_starters_words_reach_every_concept_that_it_learned() -> None:
    reached = {name for words in (WORDS.names, WORDS.keywords) for means in words.values() for name in means}
    taught = set(CONTENT["concepts"]) - WORDS.untaught
    assert taught <= reached
    assert set(starter.HELD_OUT_CONCEPTS) == WORDS.untaught
    assert "emojibase" in (Path(__file__).parents[2] / "NOTICE").read_text(encoding="utf-8")
    assert len(STYLES) == 6  # that one can name in Latin letters, but for the two that have Chinese names


def test_names_go_before_keywords_and_the_words_of_taiwan_before_others() -> None:
    entries = [
        {"label": label, "hexcode": str(code), "group": 4, "tags": []}
        for code, label in enumerate(
            ("potato", "peanuts", "cat face", "cat", *sorted(set(EVERYDAY.values())))
        )
    ]
    taiwan = [
        {"hexcode": "0", "label": "馬鈴薯", "tags": ["蔬菜"]},
        {"hexcode": "1", "label": "土豆", "tags": ["花生", "剝"]},
        {"hexcode": "2", "label": "貓頭", "tags": ["貓"]},
        {"hexcode": "3", "label": "貓", "tags": ["蔬菜"]},
    ]
    mainland = [{"hexcode": "0", "label": "土豆", "tags": ["洋芋", "yam"]}]
    made = dictionary(entries, [taiwan, mainland], {"cat", "potato"})
    assert made["names"]["土豆"] == [1]  # peanuts in Taiwan
    assert made["names"]["貓"] == [3, 2]
    assert made["keywords"] == {"洋芋": [0], "花生": [1], "蔬菜": [0, 3]}
    assert made["untaught"][:2] == ["peanuts", "cat face"]


@pytest.mark.parametrize(
    "content", ["{", "[]", "{}", '{"concepts": ["cat"], "untaught": [], "names": {"a": [1]}, "keywords": {}}']
)
def test_a_damaged_dictionary_is_a_model_error(tmp_path: Path, content: str) -> None:
    (tmp_path / chinese.FILE).write_text(content)
    with pytest.raises(ModelError, match=r"chinese\.json"):
        read(tmp_path, "貓")


def test_the_line_below_the_prompt_offers_the_caption_and_escapes_what_was_typed() -> None:
    files = PromptFiles(STARTER / "none")

    def line(prompt: str) -> str:
        return token_line(STARTER, prompt, [], 0, 4, files)

    assert 'data-caption="a red apple"' in line("蘋果")
    assert "does not know these words: 蘋果" in line("蘋果")
    assert "Left out: 漂亮" in line("漂亮的貓")
    assert "never shown: flamingo" in line("紅鶴")
    assert "does not know" not in line("a red apple")
    assert "data-caption" not in line("a red apple")
    assert "does not know" in line("яблоко")
    assert "<b>x" not in line('蘋果"<b>x')
