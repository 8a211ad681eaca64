import base64
import hashlib
import io
import json
import shutil
from random import Random

import pytest
from PIL import Image

from evaluation.questions import PARAPHRASES
from models.errors import DataError
from training.data import emoji, starter
from training.data.captions import OTHER_WORDS, coloured, pair, single, with_article
from training.data.emoji import STYLES, Concept, IconSet, concepts

THINGS = [
    Concept(f"{colour} {noun}", ("food", "sweet", "thing"), 4)
    for colour in ("red", "green", "blue", "grey", "pink")
    for noun in ("apple", "pear", "plum", "fig", "kiwi", "lime")
] + [Concept("flamingo", ("bird",), 3)]


def icon_sets():
    body = '<rect x="4" y="4" width="24" height="24" fill="#d03030"/>'
    icons = {thing.slug: {"body": body} for thing in THINGS}
    return [IconSet(package, {"icons": icons, "width": 32, "height": 32}) for package in STYLES]


def test_the_plan_is_the_same_every_time():
    first, second = starter.plan(THINGS, icon_sets()), starter.plan(THINGS, icon_sets())
    assert [picture.metadata() for picture in first] == [picture.metadata() for picture in second]


def test_shares_of_backgrounds_and_pairs_and_the_split_are_as_stated():
    pictures = starter.plan(THINGS, icon_sets())
    plain = [p for p in pictures if p.background == "white" and len(p.concepts) == 1]
    assert len(plain) == len(THINGS) * len(STYLES)
    pairs = [p for p in pictures if len(p.concepts) == 2]
    assert 0.1 <= len(pairs) / len(pictures) <= 0.2
    assert any(p.background != "white" for p in pictures)
    held_out = [p for p in plain if p.split == "held-out pair"]
    assert len(held_out) == int(starter.HELD_OUT_PAIR_SHARE * len(plain))
    assert {p.concepts[0] for p in pictures if p.split == "held-out concept"} == {"flamingo"}
    assert len({p.file_name for p in pictures}) == len(pictures)


def test_nothing_held_out_is_seen_in_training_in_any_composition():
    pictures = starter.plan(THINGS, icon_sets())
    hidden = {(p.concepts[0], p.style) for p in pictures if p.split != "train"}
    for picture in pictures:
        if picture.split == "train":
            assert not {(concept, picture.style) for concept in picture.concepts} & hidden


def test_captions_name_what_the_picture_shows():
    for picture in starter.plan(THINGS, icon_sets()):
        assert picture.captions[0].endswith(f"{picture.style} style")
        named = picture.captions[:4] if picture.concepts[0] in OTHER_WORDS else picture.captions
        for caption in named:
            assert all(concept in caption for concept in picture.concepts)
            if picture.background != "white":
                assert f"on a {picture.background} background" in caption


@pytest.mark.parametrize("relation", ["left of", "right of", "above", "below"])
def test_the_first_thing_stands_where_the_caption_says(relation):
    pictures = [p for p in starter.plan(THINGS, icon_sets()) if len(p.concepts) == 2]
    shown = [p for p in pictures if f" {relation} " in p.captions[0]]
    assert shown
    for picture in shown:
        first, second = picture.parts
        across, down = first.left - second.left, first.top - second.top
        sign = {"left of": across < 0, "right of": across > 0, "above": down < 0, "below": down > 0}
        assert sign[relation]


def test_a_drawn_picture_has_its_background_and_its_thing():
    picture = next(p for p in starter.plan(THINGS, icon_sets()) if p.background == "blue")
    png, colours = starter.draw(picture)
    image = Image.open(io.BytesIO(png))
    assert image.size == (128, 128)
    assert image.getpixel((1, 1)) == (74, 134, 214)
    assert image.getpixel((64, 64)) == (0xD0, 0x30, 0x30)
    assert colours == ["red"]


@pytest.mark.parametrize(
    ("name", "words"),
    [("red apple", "a red apple"), ("octopus", "an octopus"), ("grapes", "grapes"), ("glass", "a glass"),
     ("Santa Claus", "Santa Claus"), ("bus", "a bus"), ("scissors", "scissors")],
)  # fmt: skip
def test_articles_are_those_a_reader_expects(name, words):
    assert with_article(name) == words


def test_paraphrases_carry_keywords_and_pairs_carry_the_relation():
    captions = single(Concept("ewe", ("farm", "wool"), 3), "noto", Random(0), "white")
    assert captions[0] == "ewe, noto style"
    assert {"farm", "wool"} <= set(captions[2].replace(",", "").split())
    assert pair(THINGS[0], THINGS[1], "above", "noto")[1] == "a red apple above a red pear"


def test_a_caption_tells_the_colours_and_the_background():
    assert coloured("red apple", "noto", "blue", ["red", "green"]) == [
        "a red apple on a blue background, red and green, noto style"
    ]
    assert coloured("red apple", "noto", "white", []) == []


def test_other_words_say_a_thing_with_and_without_the_style_and_never_what_is_asked_in_evaluation():
    for name, phrases in OTHER_WORDS.items():
        captions = single(Concept(name, (), 3), "noto", Random(0), "red")
        assert captions[4::2] == [f"{words} on a red background" for words in phrases[::2]]
        assert captions[5::2] == [f"{words} on a red background, noto style" for words in phrases[1::2]]
    said = {words.lower() for phrases in OTHER_WORDS.values() for words in phrases}
    assert len(said) == 4 * len(OTHER_WORDS)  # no two things are called the same
    assert not said & {words.lower() for words in json.loads(PARAPHRASES.read_text()).values()}


def test_variants_and_symbols_are_left_out():
    entries = [
        {"label": label, "group": group, "tags": []}
        for label, group in [("dog", 3), ("man cook", 1), ("cook", 1), ("one o’clock", 5), ("flag: Chad", 9),  # noqa: RUF001
                             ("family: man, boy", 1), ("woman’s hat", 7), ("woman", 1), ("red circle", 8)]  # noqa: RUF001
    ]  # fmt: skip
    assert [concept.name for concept in concepts(entries)] == ["dog", "cook", "woman’s hat", "woman"]  # noqa: RUF001


def test_without_npm_one_sentence_says_so(monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda _name: None)
    with pytest.raises(DataError, match="needs npm"):
        emoji.fetch(STYLES[0], "icons.json")


def test_a_folder_with_files_is_not_overwritten(tmp_path):
    (tmp_path / "mine.txt").write_text("keep")
    with pytest.raises(DataError, match="not empty"):
        starter.main(tmp_path)


def test_every_package_is_pinned_by_a_sha512():
    for package in (*STYLES, emoji.NAMES):
        algorithm, digest = package.integrity.split("-", 1)
        assert algorithm == "sha512"
        assert len(base64.b64decode(digest)) == hashlib.sha512().digest_size


@pytest.mark.slow
def test_the_whole_dataset_is_built_from_the_registry(starter_dataset):
    assert not list(starter_dataset.parent.rglob("old.png"))
    rows = [json.loads(line) for line in (starter_dataset / "metadata.jsonl").read_text().splitlines()]
    assert len(rows) > 6000
    assert {row["style"] for row in rows} == {package.style for package in STYLES}
    assert set(starter.HELD_OUT_CONCEPTS) <= {
        row["concepts"][0] for row in rows if row["split"] == "held-out concept"
    }
    assert all((starter_dataset / row["file_name"]).is_file() for row in rows)
    assert {row["concepts"][0] for row in rows} == OTHER_WORDS.keys()
    apple = next(row for row in rows if row["file_name"] == "images/twemoji/red-apple.png")
    assert apple["captions"][-1] == "a red apple, red, twemoji style"
    assert check_licences((starter_dataset / "ATTRIBUTION.md").read_text())


def check_licences(text):
    return all(package.author in text and package.licence in text for package in STYLES)
