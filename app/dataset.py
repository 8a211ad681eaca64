"""A folder of pictures as a training would see it: a sheet of them, and what is left out and why."""

import os
from dataclasses import dataclass
from html import escape
from pathlib import Path
from tempfile import TemporaryDirectory

from app import text
from app.inside import picture_uri
from models.errors import DataError, RequestError
from training.data.archives import is_archive
from training.data.entries import Skipped
from training.data.images import open_entry
from training.data.index import Index, open_index

THUMBNAIL_PIXELS = 96
MAX_SHOWN, MAX_SKIPPED_SHOWN = 48, 50
MAX_FILES = 50_000  # that the page looks through while somebody waits
MAX_CAPTION_CHARACTERS = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Thumbnail:
    """A small picture as a data URI, its caption, and the size that the file has in pixels."""

    uri: str
    caption: str
    width: int
    height: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Dataset:
    """What a training would find; `shown` are pictures spread over all of them."""

    folder: Path
    count: int
    captions: int
    splits: dict[str, int]
    shown: list[Thumbnail]
    skipped: list[Skipped]


def folder_named(words: str) -> Path:
    """The folder or archive that somebody typed, as an absolute path; RequestError where none can be read."""
    typed = words.strip().strip('"')
    if not typed:
        raise RequestError(text.TRAIN_NO_FOLDER)
    try:
        folder = Path(typed).expanduser().absolute()
        if folder.is_dir() and os.access(folder, os.R_OK | os.X_OK):
            return folder
        if is_archive(typed) and folder.is_file() and os.access(folder, os.R_OK):
            return folder
    except (OSError, ValueError, RuntimeError):  # too long, a NUL, an unknown ~person
        pass
    raise RequestError(text.TRAIN_NOT_A_FOLDER.format(folder=typed[:200].replace("\0", "")))


def look_into(folder: Path) -> Dataset:
    """Decode every picture of a folder or an archive, as `data check` does.

    Raises: RequestError where nothing can be used, or it holds more files than anybody would wait for.
    """
    files = 0
    for _, _, names in os.walk(folder):
        files += len(names)
        if files > MAX_FILES:
            raise RequestError(text.TRAIN_TOO_MANY.format(limit=f"{MAX_FILES:,}", folder=folder))
    skipped: list[Skipped] = []
    with TemporaryDirectory(ignore_cleanup_errors=True) as cache:
        try:
            index = open_index(str(folder), Path(cache), skipped.append)
        except DataError as error:
            reasons = "; ".join(f"{_below(one, folder)}: {one.reason}" for one in skipped[:3])
            words = text.TRAIN_NONE_USABLE.format(error=error, reasons=reasons) if reasons else str(error)
            raise RequestError(words) from None
        count = len(index)
        numbers = range(0, count, -(-count // MAX_SHOWN))
        found = Dataset(
            folder=folder,
            count=count,
            captions=index.caption_count - 1,
            splits={split: many for split, many in sorted(index.splits().items()) if split},
            shown=[one for one in (_thumbnail(index, number) for number in numbers) if one is not None],
            skipped=skipped,
        )
        index.database.close()
    return found


def _thumbnail(index: Index, number: int) -> Thumbnail | None:
    entry = index.entry(number)
    try:
        picture = open_entry(entry)
    except DataError:  # it went away since it was counted
        return None
    width, height = picture.size
    picture.thumbnail((THUMBNAIL_PIXELS, THUMBNAIL_PIXELS))
    caption = entry.captions[0]
    if len(caption) > MAX_CAPTION_CHARACTERS:
        caption = f"{caption[:MAX_CAPTION_CHARACTERS]}…"
    return Thumbnail(uri=picture_uri(picture, "WEBP"), caption=caption, width=width, height=height)


def dataset_view(found: Dataset) -> str:
    """The sheet of a folder's pictures, above it what will be used and what not."""
    cells = "".join(
        f'<figure><img src="{one.uri}" alt="{escape(one.caption)}" loading="lazy">'
        f"<figcaption>{escape(one.caption)}<small>{text.size(one.width, one.height)}</small></figcaption>"
        "</figure>"
        for one in found.shown
    )
    words = text.TRAIN_USED.format(
        count=f"{found.count:,}", captions=f"{found.captions:,}", skipped=f"{len(found.skipped):,}"
    )
    splits = "".join(
        f"<li>{escape(text.TRAIN_SPLIT.format(split=split, count=f'{count:,}'))}</li>"
        for split, count in found.splits.items()
    )
    some = ""
    if len(found.shown) < found.count:
        some = f'<p class="ls-quiet">{text.TRAIN_SOME_SHOWN.format(count=len(found.shown))}</p>'
    return (
        f'<p class="ls-used">{words}</p>{f"<ul>{splits}</ul>" if splits else ""}{_left_out(found)}{some}'
        f'<div class="ls-dataset" tabindex="0" role="group" aria-label="{text.TRAIN_SHEET}">{cells}</div>'
    )


def _left_out(found: Dataset) -> str:
    if not found.skipped:
        return ""
    shown = found.skipped[:MAX_SKIPPED_SHOWN]
    lines = "".join(
        f"<li><b>{escape(_below(one, found.folder))}</b>: {escape(one.reason)}</li>" for one in shown
    )
    if len(found.skipped) > len(shown):
        more = text.TRAIN_MORE_SKIPPED.format(count=f"{len(found.skipped) - len(shown):,}")
        lines += f"<li>{more}</li>"
    return f'<details class="ls-help"><summary>{text.TRAIN_SKIPPED}</summary><ul>{lines}</ul></details>'


def _below(skipped: Skipped, folder: Path) -> str:
    path = Path(skipped.name)
    return str(path.relative_to(folder)) if path.is_relative_to(folder) else skipped.name
