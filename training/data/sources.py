"""Where training pictures come from: folders, metadata in the Hugging Face ImageFolder form, tar shards."""

import csv
import hashlib
import json
import os
from array import array
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from models.errors import DataError
from training.data.entries import SUFFIXES, Entry, Skipped, captions_in, label_in, lines_in, valid
from training.data.shards import MAX_TEXT_BYTES, find_shards, read_shard, shard_stamp

METADATA = ("metadata.jsonl", "metadata.csv")
SPLIT_FOLDERS = ("train", "validation", "test")


def scan(path: str) -> Iterator[Entry | Skipped]:
    """Everything that a folder, or a path or URL of tar shards, names; in a fixed order, nothing decoded.

    In a folder, captions come from `metadata.jsonl` or `metadata.csv` where there is one, else from a .txt
    beside each picture (one caption a line), else from the file's name. For shards see `read_shard`.

    Raises: DataError when there is nothing at `path`.
    """
    if Path(path).is_dir():
        root = Path(path).absolute()
        yield from _read_folder(root, root, "")
    else:
        for shard in _shards(path):
            yield from read_shard(shard)


def fingerprint(path: str) -> str:
    """A hash that changes when a file of a dataset comes, goes or changes; none of them is opened.

    Raises: DataError when there is nothing at `path`.
    """
    total = 0
    for name, stamp in _stamps(path):
        digest = hashlib.blake2b(os.fsencode(name) + b"\0" + stamp.encode(), digest_size=16).digest()
        total += int.from_bytes(digest)  # a sum: the disk may list its files in any order, and none is kept
    return f"{total % 2**128:032x}"


def _stamps(path: str) -> Iterator[tuple[str, str]]:
    if not Path(path).is_dir():
        yield from ((shard, shard_stamp(shard)) for shard in _shards(path))
        return
    for folder, _, names in os.walk(Path(path).absolute()):
        for name in names:
            yield os.path.join(folder, name), file_stamp(Path(folder, name))


def file_stamp(file: Path) -> str:
    """The size and time of a file, or why there is none."""
    try:
        stat = file.stat()
    except OSError as error:
        return str(error.strerror)
    return f"{stat.st_size} {stat.st_mtime_ns}"


def _shards(path: str) -> list[str]:
    if not path.endswith(".tar") and "://" not in path:
        raise DataError(
            f"{path} is not a folder; name a folder of pictures or of .tar shards, a .zip or .tar.gz, shards "
            f"such as 'shards/{{000..099}}.tar', or run `data starter --output {path}`"
        )
    return find_shards(path)


def _read_folder(folder: Path, root: Path, split: str) -> Iterator[Entry | Skipped]:
    """`folder` and what is below it; `root` is where labels begin: the dataset, or its folder of a split."""
    try:
        names = sorted(os.listdir(folder))
    except OSError as error:
        yield Skipped(str(folder), f"cannot be listed ({error.strerror})")
        return
    for name in METADATA:
        if name in names:
            yield from _read_metadata(folder, folder / name, split)
            yield from _not_named(folder, folder / name)
            return
    stems = {Path(name).stem for name in names if Path(name).suffix.lower() in SUFFIXES}
    for name in names:
        file = folder / name
        suffix = file.suffix.lower()
        if file.is_dir():
            if file.is_symlink():
                yield Skipped(str(file), "a link to a folder, which could lead back to where it lies")
            elif folder == root and name in SPLIT_FOLDERS and not split:
                yield from _read_folder(file, file, name)
            else:
                yield from _read_folder(file, root, split)
        elif suffix == ".tar":
            yield from read_shard(str(file), split)
        elif suffix in SUFFIXES and file.is_file():
            beside = file.with_suffix(".txt")
            words = _read_text(beside) or file.stem.replace("_", " ").replace("-", " ")
            label = "" if folder == root else folder.name
            yield Entry(str(file), lines_in(words) or ("",), split, valid(label), file_stamp(file))
        elif suffix == ".txt" and file.is_file():
            if file.stem not in stems:
                yield Skipped(str(file), "a caption without a picture of its name")
        elif not file.is_file():
            yield Skipped(str(file), "a link to nothing, or no file")
        else:
            yield Skipped(str(file), f"not a picture format this reads ({', '.join(sorted(SUFFIXES))})")


def _read_text(file: Path) -> str:
    try:
        with file.open("rb") as text:
            return text.read(MAX_TEXT_BYTES).decode(errors="replace")
    except OSError:
        return ""


def _read_metadata(folder: Path, metadata: Path, split: str) -> Iterator[Entry | Skipped]:
    root = folder.resolve()
    for number, row in _rows(metadata):
        try:
            name = row["file_name"]
            file = folder / name
            inside = file.resolve().is_relative_to(root)
            there = file.is_file()
        except (KeyError, TypeError, ValueError, OSError):  # no such key, no text, no name a disk takes
            yield Skipped(str(metadata), f"line {number} gives no file_name that can be read")
            continue
        if not inside:
            yield Skipped(str(file), "lies outside the folder")
        elif not there:
            yield Skipped(str(file), f"named in line {number} of {metadata.name}, but missing")
        else:
            yield Entry(
                file=str(file),
                captions=captions_in(row) or ("",),
                split=valid(str(row.get("split") or split)),
                label=label_in(row, Path(name).parent.name),
                stamp=file_stamp(file),
            )


def _not_named(folder: Path, metadata: Path) -> Iterator[Skipped]:
    """The files below a folder that its metadata does not name."""
    named = array("Q")  # 8 bytes a file: there may be millions
    for _, row in _rows(metadata):
        with suppress(KeyError, TypeError, ValueError):
            named.append(_number(folder / row["file_name"]))
    known = np.sort(np.frombuffer(named, np.uint64)) if named else np.empty(0, np.uint64)
    for path, folders, names in os.walk(folder):
        folders.sort()
        for name in sorted(names):
            file = Path(path, name)
            number = np.uint64(_number(file))
            place = int(np.searchsorted(known, number))
            if file != metadata and (place == len(known) or known[place] != number):
                yield Skipped(str(file), f"not named in {metadata.name}")


def _number(file: Path) -> int:
    path = os.fsencode(os.path.normpath(file))
    return int.from_bytes(hashlib.blake2b(path, digest_size=8).digest())


def _rows(metadata: Path) -> Iterator[tuple[int, Any]]:
    """The rows with their line numbers; None for a line that cannot be read."""
    with metadata.open(encoding="utf-8-sig", errors="replace", newline="") as lines:
        if metadata.suffix == ".jsonl":
            for number, line in enumerate(lines, 1):
                if line.strip():
                    yield number, _json(line)
            return
        reader = csv.DictReader(lines)
        while True:
            try:
                row: dict[str, Any] | None = next(reader)
            except StopIteration:
                return
            except csv.Error:
                row = None
            if row and str(row.get("captions")).startswith("["):
                row["captions"] = _json(row["captions"]) or row["captions"]  # a list in a cell
            yield reader.line_num, row


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None
