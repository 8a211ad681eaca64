"""Which Chinese words mean which concepts of the starter's captions, by emojibase's names and keywords.

python -m training.data.chinese --data DIR --output checkpoints/starter/chinese.json
"""

import argparse
import json
from pathlib import Path
from typing import Any

from training.data.emoji import GROUPS, NAMES, VARIANT, fetch

LOCALES = ("zh-hant", "zh")  # where both have a word, it means what it means in Taiwan


# Everyday words that emojibase has for something else first, or only inside longer ones.
EVERYDAY = {
    "車": "automobile", "车": "automobile", "人": "person", "花": "hibiscus", "茶": "hot beverage",
    "月亮": "crescent moon", "心": "red heart", "臉": "neutral face", "脸": "neutral face",
    "船": "ship", "鞋子": "running shoe", "樹": "deciduous tree", "树": "deciduous tree",
}  # fmt: skip


def dictionary(
    entries: list[dict[str, Any]], locales: list[list[dict[str, Any]]], taught: set[str]
) -> dict[str, Any]:
    """{"concepts": names, "untaught": [name], "names": {word: [number]}, "keywords": {word: [number]}}.

    `untaught` are those that no training caption has; numbers are places in `concepts`. A word is a name of
    the concepts in whose emojibase label it is, those first that are called just so, and a keyword of others.
    """
    kept = [it for it in entries if it.get("group") in GROUPS and not VARIANT.search(it["label"])]
    concepts = [entry["label"] for entry in kept]
    names: dict[str, list[int]] = {}
    keywords: dict[str, list[int]] = {}
    for locale in locales:
        by_code = {entry["hexcode"]: entry for entry in locale}
        ranked: dict[str, list[tuple[bool, int, int]]] = {}
        tagged: dict[str, list[int]] = {}
        for number, entry in enumerate(kept):
            other = by_code.get(entry["hexcode"], {})
            label = other.get("label", "")
            for word in dict.fromkeys((label, *other.get("tags", ()))):
                if word in label and word:
                    ranked.setdefault(word, []).append((label != word, len(label), number))
                elif len(word) > 1:  # single characters are verbs, which stand in many other words
                    tagged.setdefault(word, []).append(number)
        names = {word: [number for *_, number in sorted(ranks)] for word, ranks in ranked.items()} | names
        keywords = tagged | keywords
    for word, concept in EVERYDAY.items():
        number = concepts.index(concept)
        names[word] = [number, *(other for other in names.get(word, ()) if other != number)]
    return {
        "concepts": concepts,
        "untaught": [name for name in concepts if name not in taught],
        "names": {word: names[word] for word in sorted(names) if not word.isascii()},
        "keywords": {word: keywords[word] for word in sorted(keywords) if not word.isascii()},
    }


def taught_concepts(data: Path) -> set[str]:
    """The concepts that the training captions of a starter dataset are about."""
    rows = [json.loads(line) for line in (data / "metadata.jsonl").read_text(encoding="utf-8").splitlines()]
    return {name for row in rows if row["split"] == "train" for name in row["concepts"]}


def main() -> None:
    """Write the dictionary of a starter dataset."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="a folder of `data starter`")
    parser.add_argument("--output", type=Path, required=True)
    args = parser.parse_args()
    locales = [fetch(NAMES, f"{locale}/data.json") for locale in LOCALES]
    made = dictionary(fetch(NAMES, "en/data.json"), locales, taught_concepts(args.data))
    args.output.write_text(
        json.dumps(made, ensure_ascii=False, separators=(",", ":")) + "\n", encoding="utf-8"
    )
    words = {*made["names"], *made["keywords"]}
    print(f"{len(words)} words for {len(made['concepts'])} concepts in {args.output}")


if __name__ == "__main__":
    main()
