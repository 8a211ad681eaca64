"""WebDataset tar shards, on a disk, a web server or an object store: listed by their headers, read in ranges.

A sample is a run of members whose names agree up to the first dot (github.com/webdataset/webdataset).
"""

import json
import tarfile
import time
from collections.abc import Iterator
from itertools import groupby
from typing import Any

from braceexpand import braceexpand
from fsspec.core import url_to_fs

from models.errors import DataError, StudioError
from training.data.entries import SUFFIXES, Entry, Skipped, captions_in, label_in, lines_in, valid

MAX_TEXT_BYTES = 1_000_000
MAX_PICTURE_BYTES = 512_000_000
ATTEMPTS = 4


def find_shards(path: str) -> list[str]:
    """The shards that a path or URL with braces (`{000..099}`) and stars names, in order.

    Raises: DataError where there is none, or the place cannot be reached.
    """
    shards: list[str] = []
    try:
        for pattern in braceexpand(path):
            files, root = url_to_fs(pattern)
            found = sorted(files.glob(root)) if "*" in root else [root]
            shards += [files.unstrip_protocol(one).removeprefix("file://") for one in found]
    except Exception as error:  # of the file system concerned: a missing package, a wrong name, no network
        raise DataError(f"{path} cannot be listed ({error}); check data.path") from error
    if not shards:
        raise DataError(f"{path} names no file; check data.path")
    return shards


def shard_stamp(shard: str) -> str:
    """What changes when a shard does: its size with its time or tag, as far as the place tells.

    Raises: DataError where the shard is missing or cannot be reached.
    """
    try:
        files, path = url_to_fs(shard)
        info = files.info(path)
    except Exception as error:
        reason = str(error.__cause__ or error) or type(error).__name__
        raise DataError(f"{shard} cannot be reached ({reason}); check data.path") from error
    tags = (info.get(key) for key in ("size", "mtime", "ETag", "Last-Modified", "LastModified", "updated"))
    return " ".join(str(tag) for tag in tags if tag is not None)


def read_shard(shard: str, split: str = "") -> Iterator[Entry | Skipped]:
    """The samples of a shard, in its order, from the headers and the texts alone.

    Captions come from a .json (`captions`, `text` or `caption`), else a .txt (one a line); the label from
    the .json, a .cls, or the folder inside the shard.
    """
    try:
        stamp = shard_stamp(shard)
        files, path = url_to_fs(shard)
        with files.open(path, "rb") as file, tarfile.open(fileobj=file, mode="r:") as tar:
            for key, group in groupby(_members(tar), key=lambda member: _split_name(member.name)[0]):
                texts: dict[str, bytes] = {}
                pictures = []
                for member in group:
                    extension = _split_name(member.name)[1]
                    if f".{extension}" in SUFFIXES:
                        pictures.append(member)
                    elif extension in ("txt", "json", "cls"):
                        file.seek(member.offset_data)
                        texts[extension] = file.read(min(member.size, MAX_TEXT_BYTES))
                if not pictures:
                    yield Skipped(f"{shard}/{key}", "holds no picture")
                for member in pictures[1:]:
                    yield Skipped(f"{shard}/{member.name}", "a second picture of one sample")
                for member in pictures[:1]:
                    row = _json(texts.get("json", b""))
                    said = {name: text.decode(errors="replace") for name, text in texts.items()}
                    yield Entry(
                        file=shard,
                        captions=captions_in(row) or lines_in(said.get("txt", "")) or ("",),
                        split=valid(str(row.get("split") or split)),
                        label=label_in(row, said.get("cls", "").strip() or _folder_of(key)),
                        stamp=stamp,
                        member=member.name,
                        offset=member.offset_data,
                        size=member.size,
                    )
    except Exception as error:  # tarfile's, the file system's, the network's
        yield Skipped(shard, f"not a readable tar file ({str(error) or type(error).__name__})")


def read_member(entry: Entry) -> bytes:
    """The bytes of a picture in a shard.

    Raises: DataError where the shard does not hold them; StudioError where its server does not answer,
    since a picture that can be had tomorrow is not one to leave out.
    """
    if entry.size > MAX_PICTURE_BYTES:
        raise DataError(f"{entry.size:,} bytes are too many (at most {MAX_PICTURE_BYTES:,})")
    files, path = url_to_fs(entry.file)
    for attempt in range(ATTEMPTS if "://" in entry.file else 1):
        time.sleep(attempt)  # seconds: servers are busy at times, and another picture would be shown
        try:
            data: bytes = files.cat_file(path, start=entry.offset, end=entry.offset + entry.size)
            break
        except Exception as error:
            reason = error
    else:
        why = f"cannot be read ({str(reason) or type(reason).__name__})"
        if "://" in entry.file and not isinstance(reason, FileNotFoundError):
            raise StudioError(f"{entry.name} {why}; run the same command again, it goes on") from reason
        raise DataError(why) from reason
    if len(data) != entry.size:
        raise DataError(
            f"{len(data)} bytes came where {entry.size} were asked for: the shard is cut short, or its "
            "server knows no ranges"
        )
    return data


def _members(tar: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    while (member := tar.next()) is not None:
        tar.members = []  # type: ignore[attr-defined]  # else every header stays in memory
        if member.isreg() and not member.issparse():
            yield member


def _split_name(name: str) -> tuple[str, str]:
    """`cats/1.left.PNG` is the `png` of the sample `cats/1`."""
    folder, slash, file = name.rpartition("/")
    key, _, extension = file.partition(".")
    return f"{folder}{slash}{key}", extension.rpartition(".")[2].lower()


def _folder_of(key: str) -> str:
    return key.rpartition("/")[0].rpartition("/")[2]


def _json(text: bytes) -> dict[str, Any]:
    try:
        row = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return row if isinstance(row, dict) else {}
