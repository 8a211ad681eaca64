"""Datasets in one file: a .zip or .tar.gz is unpacked into a folder, member by member and with distrust.

A plain .tar is read in place, as a shard. Of tar only what plain files and folders need is understood: what
tarfile makes of sparse files and long headers may take any amount of memory.
"""

import gzip
import hashlib
import os
import stat
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple, NoReturn, Protocol

from filelock import FileLock

from models.errors import DataError, StudioError
from models.names import one_spelling, why_no_name
from training.data.sources import file_stamp
from training.disk import require_space

SUFFIXES = (".zip", ".tar.gz", ".tgz")
MAX_MEMBERS, MAX_PARTS = 1_000_000, 16
MAX_BYTES = 500_000_000_000
MAX_RATIO, FREE_BYTES = 200, 64_000_000  # unpacked bytes per packed one, and how many any archive may have
MAX_HEADER_BYTES = 65_536  # of a long name in a tar
CHUNK_BYTES, BLOCK_BYTES = 2**20, 512
PLAIN_TYPES = (tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.CONTTYPE)
LONG_NAMES = (tarfile.XHDTYPE, tarfile.SOLARIS_XHDTYPE, tarfile.GNUTYPE_LONGNAME)


class Readable(Protocol):
    """What can be read from."""

    def read(self, size: int, /) -> bytes:
        """At most `size` bytes; none at the end."""


class Member(NamedTuple):
    """A plain file in an archive, its name not yet judged, its size as the archive claims."""

    name: str
    size: int
    file: Readable


def is_archive(path: str) -> bool:
    """Whether a path names an archive that is unpacked to be read."""
    return path.lower().endswith(SUFFIXES) and "://" not in path


def unpack_once(archive: Path, folder: Path) -> Path:
    """The folder below `folder` that an archive is unpacked into, by the first of several processes.

    Raises as `unpack` does, and leaves nothing then.
    """
    stamp = f"{archive.absolute()}\0{file_stamp(archive)}"
    place = folder.absolute() / f"unpacked-{hashlib.sha256(os.fsencode(stamp)).hexdigest()[:16]}"
    made = [one for one in (folder, folder.parent) if not one.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    lock = place.with_suffix(".lock")
    try:
        with FileLock(lock):
            if not place.is_dir():
                unpack(archive, place)
    except StudioError:
        lock.unlink(missing_ok=True)
        with suppress(OSError):
            for one in made:
                one.rmdir()
        raise
    return place


def unpack(archive: Path, folder: Path) -> None:
    """Unpack into a new folder, which is there in the end with every file of the archive, or not at all.

    What is hidden, as computers add it by themselves (`__MACOSX/`, names that begin with a dot), is left out.
    Raises: DataError naming the member for links, devices and names that lead elsewhere, that another system
    cannot have or that occur twice, for archives that are damaged or encrypted, and for too many members or
    bytes; StudioError where the disk has no room.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".unpacking-") as partial:
        home = Path(partial) / "dataset"
        home.mkdir()
        try:
            if archive.suffix.lower() == ".zip":
                with zipfile.ZipFile(archive) as packed:
                    _write(_zip_members(packed), home, archive.stat().st_size)
            else:
                with gzip.open(archive) as unpacked:
                    _write(_tar_members(unpacked), home, archive.stat().st_size)
        except DataError as error:
            raise DataError(f"{archive} is not unpacked: {error}") from error
        except FileNotFoundError as error:
            raise DataError(f"there is no {archive}; check its path") from error
        except OSError as error:
            if not isinstance(error, gzip.BadGzipFile):
                why = error.strerror or error
                raise StudioError(f"{archive} cannot be unpacked in {folder.parent}: {why}") from error
            raise DataError(f"{archive} is damaged ({error}); get the file again") from error
        except (NotImplementedError, RuntimeError) as error:  # a way to pack or to lock that is not known
            raise DataError(f"{archive} cannot be unpacked ({error}); pack it anew, unencrypted") from error
        except StudioError:
            raise
        except Exception as error:  # what damage has the readers come upon
            reason = str(error) or type(error).__name__
            raise DataError(f"{archive} is damaged ({reason}); get the file again") from error
        home.rename(folder)


def _write(members: Iterator[Member], home: Path, packed_bytes: int) -> None:
    limit = min(MAX_BYTES, max(FREE_BYTES, MAX_RATIO * packed_bytes))
    taken: dict[str, bool] = {}  # one spelling of each path, and whether it is a file
    written = 0
    for count, member in enumerate(members, start=1):
        if count > MAX_MEMBERS:
            raise DataError(f"it holds more than {MAX_MEMBERS:,} files; split it")
        parts = member.name.removeprefix("./").split("/")
        hidden = parts[0] == "__MACOSX" or any(part.startswith(".") and part.strip(".") for part in parts)
        for part in parts:
            if reason := why_no_name(part.lstrip(".") if hidden else part):
                _refuse(member.name, f"which is no name everywhere ({reason}); rename it")
        if len(parts) > MAX_PARTS:
            _refuse(member.name, f"more than {MAX_PARTS} folders deep; pack it flatter")
        if hidden:
            continue
        _claim(taken, parts, member.name)
        require_space(home, min(member.size, limit), f"{member.name} takes", "")
        place = home.joinpath(*parts)
        place.parent.mkdir(parents=True, exist_ok=True)
        with place.open("xb") as file:
            while chunk := member.file.read(CHUNK_BYTES):
                written += len(chunk)
                if written > limit:
                    raise DataError(f"it unpacks to more than {limit:,} bytes, as no pictures do")
                file.write(chunk)


def _claim(taken: dict[str, bool], parts: list[str], name: str) -> None:
    """Note a file and its folders; DataError for a file that is there twice, or is a folder as well."""
    path = ""
    for depth, part in enumerate(parts, start=1):
        path, is_file = f"{path}/{one_spelling(part)}", depth == len(parts)
        if path in taken and (is_file or taken[path]):
            _refuse(name, "twice, or under two names that some systems take for one; rename it")
        taken[path] = is_file


def _refuse(name: str, why: str) -> NoReturn:
    raise DataError(f"it holds {name[:200]!a}, {why}")


def _zip_members(packed: zipfile.ZipFile) -> Iterator[Member]:
    for info in packed.infolist():
        name = info.orig_filename  # `filename` is made harmless: cut at a NUL, for one
        if name.endswith("/"):
            continue
        if stat.S_IFMT(info.external_attr >> 16) not in (0, stat.S_IFREG):
            _refuse(name, "a link or a device; pack plain files alone")
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            _refuse(name, f"packed by method {info.compress_type}; pack it anew, deflated")
        with packed.open(info) as file:
            yield Member(name, info.file_size, file)


def _tar_members(unpacked: Readable) -> Iterator[Member]:
    long_name: str | None = None
    long_size: int | None = None
    while (block := unpacked.read(BLOCK_BYTES)).strip(b"\0"):
        if len(block) < BLOCK_BYTES:
            raise EOFError("it ends within a header")
        header = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
        name, size = long_name or header.name, header.size if long_size is None else long_size
        if size < 0:
            _refuse(name, "of no size at all; get the file again")
        content = _Part(unpacked, size)
        if header.type in (*LONG_NAMES, tarfile.XGLTYPE):
            if size > MAX_HEADER_BYTES:
                _refuse(name, f"a name of {size:,} bytes; get the file again")
            text = content.read(size)
            if header.type == tarfile.GNUTYPE_LONGNAME:
                long_name = text.rstrip(b"\0").decode("utf-8", "surrogateescape")
            elif header.type != tarfile.XGLTYPE:
                long_name, long_size = _pax(text, long_name)
        else:
            if header.type in PLAIN_TYPES:
                yield Member(name, size, content)
            elif header.type != tarfile.DIRTYPE:
                _refuse(name, "a link or a device; pack plain files alone")
            long_name = long_size = None
        while content.read(CHUNK_BYTES):
            pass
        unpacked.read(-size % BLOCK_BYTES)


class _Part:
    """So many of the next bytes of a file, read in their order."""

    def __init__(self, file: Readable, size: int) -> None:
        self.file, self.left = file, size

    def read(self, size: int, /) -> bytes:
        """At most `size` bytes; EOFError where the file ends before the part does."""
        data = self.file.read(min(size, self.left))
        if not data and size and self.left:
            raise EOFError("it ends within a file")
        self.left -= len(data)
        return data


def _pax(text: bytes, name: str | None) -> tuple[str | None, int | None]:
    """The name and the size that the records of a header give the next member."""
    size = None
    while text:
        length, _, rest = text.partition(b" ")
        end = int(length) if length.isdigit() and len(length) < 8 else 0
        if not len(length) + 1 < end <= len(text):
            raise tarfile.HeaderError("a header of no known form")
        key, _, value = rest[: end - len(length) - 2].partition(b"=")
        if key == b"path":
            name = value.decode("utf-8", "surrogateescape")
        elif key == b"size" and value.isdigit() and len(value) < 20:
            size = int(value)
        elif key.startswith(b"GNU.sparse"):
            _refuse(name or "a file", "with holes; pack plain files alone")
        text = text[end:]
    return name, size
