"""What a model is asked to draw: captions it was trained on, pairs it was not, and other words."""

import json
from dataclasses import dataclass
from pathlib import Path
from random import Random

from evaluation.starter_data import Thing

PARAPHRASES = Path(__file__).parent / "paraphrases.json"


@dataclass(frozen=True, slots=True)
class Question:
    """A prompt, and the concept and style that its picture should show; a style of "" is any."""

    prompt: str
    concept: str
    style: str


def questions(things: list[Thing], count: int, seed: int) -> dict[str, list[Question]]:
    """Up to `count` of each kind: "train", "heldout" ((concept, style) pairs) and "paraphrase".

    Which they are depends on `seed` alone. Paraphrases say a concept in words of no training caption, and
    no style: `paraphrases.json` holds them, {concept: words}.
    """
    random = Random(seed)
    asked = {}
    for name, split in (("train", "train"), ("heldout", "held-out pair")):
        known = [thing for thing in things if thing.split == split]
        chosen = random.sample(known, min(count, len(known)))
        asked[name] = [Question(thing.caption, thing.concept, thing.style) for thing in chosen]
    trained = {thing.concept for thing in things if thing.split == "train"}
    words = json.loads(PARAPHRASES.read_text(encoding="utf-8"))
    others = [Question(prompt, concept, "") for concept, prompt in words.items() if concept in trained]
    asked["paraphrase"] = random.sample(others, min(count, len(others)))
    return asked
