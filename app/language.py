"""Which language a visitor reads, and app/text/ answering in it.

English is written in app/text/, every other language in languages/TAG.json under the same names.
"""

import functools
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

ENGLISH = "en"
# {BCP 47 tag: its name in itself}, in the order in which the page offers them.
LANGUAGES = {ENGLISH: "English", "zh-TW": "繁體中文"}
FOLDER = Path(__file__).parent / "languages"
COOKIE = "latent_studio_language"  # static/language.js sets it
# Regions and scripts that are read in Traditional Chinese; other Chinese may choose it in the page's header.
TRADITIONAL_CHINESE = ("zh-tw", "zh-hk", "zh-mo", "zh-hant")
_current: ContextVar[str] = ContextVar("language", default=ENGLISH)


def current() -> str:
    """The language of the page that is built or the request that is answered here; English elsewhere."""
    return _current.get()


@contextmanager
def speaking(tag: str) -> Iterator[None]:
    """What app/text/ says within is said in this language; threads that are given the context included."""
    before = _current.set(tag)
    try:
        yield
    finally:
        _current.reset(before)


def wanted(headers: Mapping[str, str]) -> str:
    """The language that a request asks for: the one chosen on the page, else the first one of the browser."""
    cookies = dict(part.strip().partition("=")[::2] for part in headers.get("cookie", "").split(";"))
    if cookies.get(COOKIE) in LANGUAGES:
        return cookies[COOKIE]
    ranked = []
    for part in headers.get("accept-language", "").lower().split(","):
        tag, _, weight = part.strip().partition(";q=")
        ranked.append((-_number(weight), tag))
    for _, tag in sorted(ranked, key=lambda one: one[0]):
        if any(tag == one or tag.startswith(f"{one}-") for one in TRADITIONAL_CHINESE):
            return "zh-TW"
        if tag.partition("-")[0] == ENGLISH:
            return ENGLISH
    return ENGLISH


@functools.cache
def translation(tag: str) -> dict[str, Any]:
    """The words of a language by the names that they have in app/text/."""
    words: dict[str, Any] = json.loads((FOLDER / f"{tag}.json").read_text(encoding="utf-8"))
    return words


class Spoken(ModuleType):
    """A module of words that answers in the current language, and in its own where that lacks a word."""

    def __getattribute__(self, name: str) -> Any:
        """The word; a function of the module comes with the words of that language as its globals."""
        value = super().__getattribute__(name)
        tag = current()
        if tag == ENGLISH or name.startswith("_"):
            return value
        return _translated(tag, self).get(name, value)


@functools.cache
def _translated(tag: str, module: ModuleType) -> dict[str, Any]:
    names: dict[str, Any] = {**module.__dict__, **translation(tag)}
    for name, value in module.__dict__.items():
        if isinstance(value, FunctionType):
            names[name] = FunctionType(value.__code__, names, name, value.__defaults__, value.__closure__)
    return names


def _number(weight: str) -> float:
    try:
        return float(weight or 1)
    except ValueError:
        return 0.0
