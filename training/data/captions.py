"""What a picture of the starter dataset is called: the thing, its style, its background, its neighbours."""

from random import Random

from training.data.emoji import Concept

# Names are given in captions, values are sRGB.
COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (214, 69, 65),
    "orange": (243, 156, 63),
    "yellow": (250, 215, 92),
    "green": (88, 175, 96),
    "blue": (74, 134, 214),
    "purple": (146, 97, 196),
    "pink": (246, 168, 196),
    "brown": (139, 99, 72),
    "grey": (150, 154, 160),
    "black": (26, 26, 30),
}
RELATIONS = ("left of", "right of", "above", "below")


def with_article(name: str) -> str:
    """`a red apple`, `an octopus`, but `grapes`: plural and proper names take no article."""
    last = name.split()[-1]
    plural = last.endswith("s") and not last.endswith(("ss", "us", "is", "bus"))
    if plural or name[0].isupper() or name[0].isdigit():
        return name
    return f"{'an' if name[0].lower() in 'aeiou' else 'a'} {name}"


def single(concept: Concept, style: str, random: Random, background: str | None = None) -> list[str]:
    """Captions of one thing: the canonical one first, then paraphrases, then one without the style."""
    thing = with_article(concept.name)
    where = "" if background is None else f" on a {background} background"
    words = [word for word in concept.keywords if word not in concept.name and word.isascii()]
    picked = random.sample(words, min(2, len(words)))
    return [
        f"{concept.name}{where}, {style} style",
        f"{thing}{where}, {style} style",
        ", ".join([f"{concept.name}{where}", *picked, f"{style} style"]),
        f"{thing}{where}",
    ]


def pair(first: Concept, second: Concept, relation: str, style: str) -> list[str]:
    """Captions of two things in one picture, `first` standing `relation` to `second`."""
    words = f"{with_article(first.name)} {relation} {with_article(second.name)}"
    return [f"{words}, {style} style", words]
