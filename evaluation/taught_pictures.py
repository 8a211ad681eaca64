"""Five pictures each of the concepts that the starter's data keeps out, and those that are not taught."""

import io
from pathlib import Path

import resvg_py
from PIL import Image

from evaluation.starter_data import Thing
from models.writing import write_bytes
from training.data.emoji import Concept, IconSet, Package, fetch, fetch_files
from training.data.starter import SIZE

# Two more styles than the starter's, so that five of six can be taught.
OUTLINED = Package(
    "@iconify-json/openmoji",
    "1.2.29",
    "sha512-vXdhkqcXVSO6suy+m9LbcUM3OdVyuNOtpV8/als/WqfkQIRxevL5Geb/g+6GH/Qwnq1OqksEmaDGTCmZ5nFKJQ==",
    "openmoji",
    "OpenMoji, https://openmoji.org",
    "CC-BY-SA-4.0",
)
RENDERED = Package(
    "@lobehub/fluent-emoji-3d",
    "1.1.0",
    "sha512-Wlq2lVStTnr8BDpIJ0pEnTKO4LuDxxqTEhTvRtD1DLRF0me7ogeRQjKoehDHXuVJ2Qaecgl5wRBv60lUAG3h7g==",
    "rendered",
    "Microsoft Corporation, https://github.com/microsoft/fluentui-emoji",
    "MIT",
)
CODES = {
    "flamingo": "1f9a9", "waffle": "1f9c7", "accordion": "1fa97", "beaver": "1f9ab", "kite": "1fa81",
    "coconut": "1f965", "sloth": "1f9a5", "saxophone": "1f3b7", "teapot": "1fad6", "lobster": "1f99e",
}  # fmt: skip
TAUGHT_STYLES = ("fluent 3d", "fluent flat", "noto")  # of the dataset; the others are never shown


def taught_pictures(things: list[Thing], concept: str, folder: Path) -> tuple[list[Path], list[Path]]:
    """The five pictures of a concept that are taught, and those in other styles that are not.

    Three come from the dataset, two from packages, fetched once into `folder`.
    """
    own = {thing.style: thing.file for thing in things if thing.concept == concept}
    fetched = [folder / package.style / f"{concept}.png" for package in (OUTLINED, RENDERED)]
    if not all(file.exists() for file in fetched):
        _fetch(folder)
    taught = [*(own[style] for style in TAUGHT_STYLES), *fetched]
    return taught, [file for style, file in own.items() if style not in TAUGHT_STYLES]


def _fetch(folder: Path) -> None:
    icons = IconSet(OUTLINED, fetch(OUTLINED, "icons.json"))
    rendered = fetch_files(RENDERED, [f"assets/{code}.webp" for code in CODES.values()])
    margin = SIZE // 16  # as the dataset's
    inner = SIZE - 2 * margin
    for concept, code in CODES.items():
        svg = icons.svg(Concept(concept, (), 0))
        outlined = bytes(resvg_py.svg_to_bytes(svg_string=svg, width=inner, height=inner))
        for package, data in ((OUTLINED, outlined), (RENDERED, rendered[f"assets/{code}.webp"])):
            icon = (
                Image.open(io.BytesIO(data)).convert("RGBA").resize((inner, inner), Image.Resampling.LANCZOS)
            )
            canvas = Image.new("RGBA", (SIZE, SIZE), "white")
            canvas.alpha_composite(icon, (margin, margin))
            png = io.BytesIO()
            canvas.convert("RGB").save(png, "PNG")
            write_bytes(folder / package.style / f"{concept}.png", png.getvalue())
