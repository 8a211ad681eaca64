"""`data starter`: draws the starter dataset, a folder of captioned pictures with a written-down split."""

import io
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random

import resvg_py
from PIL import Image
from tqdm import tqdm

from models.errors import DataError
from training.data import captions, colours
from training.data.emoji import NAMES, STYLES, Concept, IconSet, concepts, fetch

SIZE = 128
BACKGROUND_SHARE = 0.12  # pictures drawn once more on a plain colour, as a share of the plain ones
PAIR_SHARE = 0.16  # pictures of two things, as a share of the plain ones
HELD_OUT_PAIR_SHARE = 0.03  # (concept, style) pairs kept from training
HELD_OUT_CONCEPTS = (
    "flamingo", "waffle", "accordion", "beaver", "kite", "coconut", "sloth", "saxophone", "teapot", "lobster",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Part:
    """One SVG in a picture: pixels of its box, left and top of it."""

    svg: str
    size: int
    left: int
    top: int


@dataclass(frozen=True, slots=True)
class Picture:
    """One picture to draw, with everything the metadata says of it."""

    file_name: str
    captions: list[str]
    concepts: list[str]
    style: str
    background: str
    split: str  # "train", "held-out pair" or "held-out concept"
    parts: list[Part]

    def metadata(self) -> dict[str, object]:
        """The picture's line in metadata.jsonl; `text` is the canonical caption."""
        return {
            "file_name": self.file_name,
            "text": self.captions[0],
            "captions": self.captions,
            "concepts": self.concepts,
            "style": self.style,
            "background": self.background,
            "split": self.split,
        }


def draw(picture: Picture) -> tuple[bytes, list[str]]:
    """A picture as PNG, `SIZE` pixels square, RGB; and what the colours of a single thing are called."""
    colour = colours.BACKGROUNDS.get(picture.background, (255, 255, 255))
    named: list[str] = []
    canvas = Image.new("RGBA", (SIZE, SIZE), (*colour, 255))
    for part in picture.parts:
        png = resvg_py.svg_to_bytes(
            svg_string=part.svg, width=part.size, height=part.size, skip_system_fonts=True
        )
        icon = Image.open(io.BytesIO(bytes(png))).convert("RGBA")
        if len(picture.parts) == 1:
            named = colours.dominant(icon)
        offset = ((part.size - icon.width) // 2, (part.size - icon.height) // 2)
        canvas.alpha_composite(icon, (part.left + offset[0], part.top + offset[1]))
    buffer = io.BytesIO()
    canvas.convert("RGB").save(buffer, "PNG", optimize=False)
    return buffer.getvalue(), named


def plan(things: list[Concept], sets: list[IconSet], seed: int = 0) -> list[Picture]:
    """Decide every picture of the dataset, deterministically from `seed`."""
    random = Random(seed)
    icons = {
        (thing, icon_set.package.style): svg
        for thing in things
        for icon_set in sets
        if (svg := icon_set.svg(thing)) is not None
    }
    styles_of = {thing: [style for one, style in icons if one == thing] for thing in things}
    wide = [pair for pair in icons if len(styles_of[pair[0]]) >= 3 and pair[0].name not in HELD_OUT_CONCEPTS]
    held_out = set(random.sample(wide, int(HELD_OUT_PAIR_SHARE * len(icons))))

    pictures = []
    margin = SIZE // 16
    for (thing, style), svg in icons.items():
        split = "train"
        if thing.name in HELD_OUT_CONCEPTS:
            split = "held-out concept"
        elif (thing, style) in held_out:
            split = "held-out pair"
        words = captions.single(thing, style, random, captions.PLAIN)
        name = f"images/{style.replace(' ', '-')}/{thing.slug}.png"
        part = Part(svg, SIZE - 2 * margin, margin, margin)
        pictures.append(Picture(name, words, [thing.name], style, captions.PLAIN, split, [part]))

    train = [pair for pair in icons if pair not in held_out and pair[0].name not in HELD_OUT_CONCEPTS]
    pictures += _on_colours(train, icons, random)
    pictures += _pairs(train, icons, random)
    return pictures


def _on_colours(
    train: list[tuple[Concept, str]], icons: dict[tuple[Concept, str], str], random: Random
) -> Iterator[Picture]:
    margin = SIZE // 8
    for thing, style in random.sample(train, int(BACKGROUND_SHARE * len(train))):
        colour = random.choice(list(colours.BACKGROUNDS))
        words = captions.single(thing, style, random, colour)
        name = f"images/{style.replace(' ', '-')}/{thing.slug}-on-{colour}.png"
        part = Part(icons[thing, style], SIZE - 2 * margin, margin, margin)
        yield Picture(name, words, [thing.name], style, colour, "train", [part])


def _pairs(
    train: list[tuple[Concept, str]], icons: dict[tuple[Concept, str], str], random: Random
) -> Iterator[Picture]:
    # Faces and hand signs beside things read badly; animals, food, places, games and objects compose.
    solid = [(thing, style) for thing, style in train if thing.group in (3, 4, 5, 6, 7)]
    half = SIZE // 2
    for number in range(int(PAIR_SHARE * len(train))):
        first, style = random.choice(solid)
        second = random.choice([thing for thing, other in solid if other == style and thing != first])
        relation = random.choice(captions.RELATIONS)
        across, ahead = relation in ("left of", "right of"), relation in ("left of", "above")
        near, far = (0, half) if ahead else (half, 0)
        places = [(near, half // 2), (far, half // 2)] if across else [(half // 2, near), (half // 2, far)]
        parts = [
            Part(icons[thing, style], half - 4, left + 2, top + 2)
            for thing, (left, top) in zip((first, second), places, strict=True)
        ]
        words = captions.pair(first, second, relation, style)
        name = f"images/pairs/{number:04d}.png"
        yield Picture(name, words, [first.name, second.name], style, captions.PLAIN, "train", parts)


def main(output: Path) -> int:
    """Build the dataset in the new or empty folder `output` and say what it holds.

    Raises: DataError when `output` holds files already, or npm is missing.
    """
    if output.exists() and any(output.iterdir()):
        raise DataError(f"{output} is not empty; name a new folder")
    try:
        output.absolute().parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=output.absolute().parent):
            pass
    except OSError as error:
        raise DataError(f"{output} cannot be written ({error.strerror}); name another folder") from error
    things = concepts(fetch(NAMES, "en/data.json"))
    pictures = plan(things, [IconSet(package, fetch(package, "icons.json")) for package in STYLES])
    rows = []
    # Built beside its place and moved there when complete: half a dataset would train without its split.
    draft = output.with_name(f"{output.name}.partial")
    shutil.rmtree(draft, ignore_errors=True)
    for folder in {(draft / picture.file_name).parent for picture in pictures}:
        folder.mkdir(parents=True, exist_ok=True)
    with ProcessPoolExecutor(max_workers=os.cpu_count()) as pool:
        drawn = pool.map(draw, pictures, chunksize=16)
        for picture, (png, named) in tqdm(
            zip(pictures, drawn, strict=True), total=len(pictures), unit="picture"
        ):
            (draft / picture.file_name).write_bytes(png)
            words = captions.coloured(picture.concepts[0], picture.style, picture.background, named)
            rows.append(replace(picture, captions=picture.captions + words).metadata())
    (draft / "ATTRIBUTION.md").write_text(attribution(), encoding="utf-8")
    lines = [json.dumps(row, ensure_ascii=False) for row in rows]
    (draft / "metadata.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    if output.exists():
        output.rmdir()
    draft.rename(output)
    splits = [picture.split for picture in pictures]
    counts = ", ".join(f"{splits.count(split)} {split}" for split in sorted(set(splits)))
    print(f"{len(pictures)} pictures of {len(things)} concepts in {output} ({counts})")
    return 0


def attribution() -> str:
    """Who drew the pictures, under which licence."""
    rows = [
        f"- {package.style or 'names and keywords'}: {package.author} ({package.licence}), "
        f"npm `{package.name}` {package.version}"
        for package in (*STYLES, NAMES)
    ]
    return "# Sources of the starter dataset\n\n" + "\n".join(rows) + "\n"
