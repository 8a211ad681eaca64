"""What a picture of the starter dataset is called: the thing, its style, its background, its neighbours."""

import json
from pathlib import Path
from random import Random

from training.data.emoji import Concept

PLAIN = "white"  # the background that no caption mentions
# {concept: what someone might type who does not know or use its name}
OTHER_WORDS: dict[str, list[str]] = json.loads(
    (Path(__file__).parent / "other_words.json").read_text(encoding="utf-8")
)
RELATIONS = ("left of", "right of", "above", "below")


def with_article(name: str) -> str:
    """`a red apple`, `an octopus`, but `grapes`: plural and proper names take no article."""
    last = name.split()[-1]
    plural = last.endswith("s") and not last.endswith(("ss", "us", "is", "bus"))
    if plural or name[0].isupper() or name[0].isdigit():
        return name
    return f"{'an' if name[0].lower() in 'aeiou' else 'a'} {name}"


def single(concept: Concept, style: str, random: Random, background: str) -> list[str]:
    """Captions of one thing: the canonical one first, with keywords, without the style, in other words."""
    thing, where = with_article(concept.name), on_background(background)
    words = [word for word in concept.keywords if word not in concept.name and word.isascii()]
    picked = random.sample(words, min(2, len(words)))
    others = [f"{words}{where}" for words in OTHER_WORDS.get(concept.name, ())]
    return [
        f"{concept.name}{where}, {style} style",
        f"{thing}{where}, {style} style",
        ", ".join([f"{concept.name}{where}", *picked, f"{style} style"]),
        f"{thing}{where}",
        # Every second one with the style: words that never name one are drawn in some style too.
        *(f"{words}, {style} style" if number % 2 else words for number, words in enumerate(others)),
    ]


def coloured(name: str, style: str, background: str, colours: list[str]) -> list[str]:
    """The caption of one thing that tells its colours; none where no colour stands out."""
    if not colours:
        return []
    return [f"{with_article(name)}{on_background(background)}, {' and '.join(colours)}, {style} style"]


def on_background(background: str) -> str:
    """What a caption says of a background; nothing of the plain one."""
    return "" if background == PLAIN else f" on a {background} background"


def pair(first: Concept, second: Concept, relation: str, style: str) -> list[str]:
    """Captions of two things in one picture, `first` standing `relation` to `second`."""
    words = f"{with_article(first.name)} {relation} {with_article(second.name)}"
    return [f"{words}, {style} style", words]
