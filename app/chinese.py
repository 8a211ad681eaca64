"""Chinese prompts for a model that learned English captions: known words become one of those.

A model folder brings chinese.json (training/data/chinese.py makes it): words and the concepts they mean.
The grammar is that of training/data/captions.py: things, their colours, a background, a style.
"""

import functools
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from models.errors import ModelError
from models.weights import read_json
from training.data.captions import PLAIN, on_background, with_article

FILE = "chinese.json"
# Characters, and the full-width signs between them.
RUN = re.compile(
    r"[\u3400-\u9fff](?:[\u3000-\u303f\u3400-\u9fff\uff00-\uff0f\uff1a-\uff20]*[\u3400-\u9fff])?"
)
COLOURS = {
    "red": "紅色 紅 红色 红", "orange": "橘色 橘 橙色 橙", "yellow": "黃色 黃 黄色 黄",
    "green": "綠色 綠 青色 绿色 绿", "blue": "藍色 藍 蓝色 蓝", "purple": "紫色 紫",
    "pink": "粉紅色 粉紅 粉色 粉红色 粉红",
    "brown": "棕色 咖啡色 褐色", "grey": "灰色 灰", "black": "黑色 黑", "white": "白色 白",
}  # fmt: skip
ADJECTIVES = {
    "happy": "開心 快樂 高興 开心 快乐 高兴", "sad": "難過 傷心 难过 伤心", "smiling": "微笑 笑",
    "angry": "生氣 憤怒 生气 愤怒",
    "crying": "哭泣 哭", "cute": "可愛 可爱", "big": "大", "small": "小", "sleeping": "睡覺 睡觉",
}  # fmt: skip
STYLES = {
    "fluent 3d style": "立體風格 立體 立体风格 立体",
    "fluent flat style": "扁平風格 扁平 平面風格 扁平风格 平面风格",
    "style": "風格 风格",
}  # fmt: skip
RELATIONS = {
    "left of": "左邊 左側 左方 左边 左侧", "right of": "右邊 右側 右方 右边 右侧",
    "above": "上面 上方 上邊 上边", "below": "下面 下方 底下 下邊 下边",
}  # fmt: skip
# What joins words without a meaning of its own here; a measure word stands behind 一.
PARTICLES = "的 之 在 於 是 有 上 裡 里 和 與 跟 及 还有 還有 畫 画 一 " + " ".join(
    f"一{measure}" for measure in "個隻顆張幅朵輛艘棵片塊杯條把座匹頭位架碗盤台间間件只颗张辆块条头盘"
)


@dataclass(frozen=True, slots=True)
class Read:
    """A prompt in the model's own words; the words that were left out, and the things it was never shown."""

    caption: str
    left_out: tuple[str, ...]
    untaught: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Thing:
    """One thing of a caption: the concepts that can be meant, the likeliest first, and what is said of it."""

    meant: list[str]
    adjectives: list[str]
    colours: list[str]

    @property
    def concept(self) -> str:
        """The likeliest concept; one that has an asked colour in its name is more so."""
        return next((it for it in self.meant if set(self.colours) & set(it.split())), self.meant[0])

    @property
    def phrase(self) -> str:
        """The concept with its adjectives and its article."""
        return with_article(" ".join([*self.adjectives, self.concept]))


class Dictionary:
    """The words of a model's chinese.json, and the small words of its captions."""

    def __init__(self, content: dict[str, Any]) -> None:
        concepts = [str(name) for name in content["concepts"]]
        self.untaught = frozenset(content["untaught"])
        self.names, self.keywords = (
            {word: [concepts[number] for number in means] for word, means in content[kind].items() if means}
            for kind in ("names", "keywords")
        )
        self.small = {
            word: (kind, english)
            for kind, listed in (
                ("particle", {"": PARTICLES}),
                ("background", {"": "背景 底色 底"}),
                ("relation", RELATIONS),
                ("style", STYLES),
                ("adjective", ADJECTIVES),
                ("colour", COLOURS),
            )
            for english, words in listed.items()
            for word in words.split()
        }
        self.longest = max(map(len, [*self.names, *self.keywords, *self.small]))

    def read(self, prompt: str) -> Read | None:
        """The prompt with each run of Chinese as a caption; None where it has none, or no word is known."""
        left_out: list[str] = []
        untaught: list[str] = []
        known = False

        def replace(run: re.Match[str]) -> str:
            nonlocal known
            caption = _Caption(self, left_out, untaught).of(run[0])
            known = known or bool(caption)
            before, after = prompt[: run.start()][-1:], prompt[run.end() :][:1]
            return f"{' ' * before.isalnum()}{caption}{' ' * after.isalnum()}"

        caption = " ".join(RUN.sub(replace, prompt).split()).strip(" ,")
        return Read(caption, tuple(left_out), tuple(dict.fromkeys(untaught))) if known else None

    def pieces(self, run: str) -> Iterator[tuple[str, str, str]]:
        """The kind of each piece of a run, its word and its English: the longest word known from there on.

        A thing has no English yet; what is not known is one piece up to the next known word.
        """
        place, unknown = 0, ""
        while place < len(run):
            for length in range(min(self.longest, len(run) - place), 0, -1):
                word = run[place : place + length]
                if word in self.small or word in self.names or word in self.keywords:
                    break
            else:
                unknown, place = unknown + run[place], place + 1
                continue
            if unknown:
                yield "unknown", unknown, ""
            unknown, place = "", place + length
            kind, english = self.small.get(word, ("thing", ""))
            yield kind, word, english
        if unknown:
            yield "unknown", unknown, ""


class _Caption:
    """One run of Chinese on its way to a caption."""

    def __init__(self, dictionary: Dictionary, left_out: list[str], untaught: list[str]) -> None:
        self.dictionary, self.left_out, self.untaught = dictionary, left_out, untaught
        self.things: list[Thing] = []
        self.colours: list[str] = []  # of the next thing
        self.adjectives: list[str] = []
        self.keywords: list[str] = []  # which narrow down what the next thing is
        self.style, self.background, self.relation = "", PLAIN, ""

    def of(self, run: str) -> str:
        """The caption of a run; empty where nothing of it is known."""
        after_background = between = False
        for kind, word, english in self.dictionary.pieces(run):
            if kind == "thing":
                self._add(word)
            elif word not in "的之":
                self._add_keywords()
            if kind == "colour" and after_background:
                self.background = english
            elif kind == "colour":
                self.colours.append(english)
            elif kind == "adjective":
                self.adjectives.append(english)
            elif kind == "background" and self.colours:
                self.background = self.colours.pop()
            elif kind == "style":
                self.style = english
            elif kind == "relation":
                self.relation, between = english, len(self.things) == 1
            elif kind == "unknown" and RUN.search(word):
                self.left_out.append(word)
            after_background = kind == "background" or (after_background and kind == "particle")
        self._add_keywords()
        return self._whole(between)

    def _add(self, word: str) -> None:
        """A thing, which keywords right before it narrow down; or one more of these keywords."""
        if word not in self.dictionary.names:
            self.keywords.append(word)
            return
        meant = [*self.dictionary.names[word], *self.dictionary.keywords.get(word, ())]
        for keyword in self.keywords:
            both = [concept for concept in meant if concept in self.dictionary.keywords[keyword]]
            meant = both or meant
            self.left_out += [] if both else [keyword]
        self.things.append(Thing(meant, self.adjectives, self.colours))
        self.adjectives, self.colours, self.keywords = [], [], []

    def _add_keywords(self) -> None:
        """What keywords mean that no name follows."""
        for keyword in self.keywords:
            self.things.append(Thing(self.dictionary.keywords[keyword], self.adjectives, self.colours))
            self.adjectives, self.colours = [], []
        self.keywords = []

    def _whole(self, between: bool) -> str:
        things = self.things
        if things and self.colours:  # "the apple is red"
            things[-1] = Thing(things[-1].meant, things[-1].adjectives, self.colours)
        phrases = [thing.phrase for thing in things] or [" ".join([*self.adjectives, *self.colours])]
        self.untaught += [thing.concept for thing in things if thing.concept in self.dictionary.untaught]
        if self.relation and len(things) == 2:
            # "A is left of B", or "left of A is B".
            near, far = reversed(phrases) if between else phrases
            phrases = [f"{near} {self.relation} {far}"]
        phrases[0] = f"{phrases[0]}{on_background(self.background)}".strip()
        colours = [it for thing in things for it in thing.colours if it not in thing.concept.split()]
        return ", ".join(filter(None, [*phrases, " and ".join(colours), self.style]))


def read(model: Path, prompt: str) -> Read | None:
    """A prompt in the words of a model's captions; None where it has no Chinese that the model folder knows.

    Raises ModelError where the folder's dictionary cannot be read.
    """
    file = model / FILE
    if not file.is_file() or not RUN.search(prompt):
        return None
    return _dictionary(file, file.stat().st_mtime_ns).read(prompt)


@functools.lru_cache(maxsize=2)
def _dictionary(file: Path, changed: int) -> Dictionary:
    content = read_json(file)
    try:
        return Dictionary(content)
    except (KeyError, TypeError, IndexError, AttributeError, ValueError) as error:
        raise ModelError(f"{file} is not a dictionary of Chinese words: {error!r}") from None
