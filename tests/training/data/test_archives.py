import gzip
import io
import stat
import tarfile
import tempfile
import zipfile
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from app.dataset import folder_named, look_into
from models.errors import DataError, RequestError, StudioError
from training.data import archives
from training.data.archives import is_archive, unpack, unpack_once
from training.data.entries import Skipped
from training.data.index import open_index

Pack = Callable[[Path, Iterable[tuple[str, bytes]]], Path]


def a_picture(shade: int = 0) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (20, 20), (shade, 90, 120)).save(buffer, "PNG")
    return buffer.getvalue()


def as_zip(file: Path, members: Iterable[tuple[str, bytes]]) -> Path:
    with zipfile.ZipFile(file.with_suffix(".zip"), "w", zipfile.ZIP_DEFLATED) as packed:
        for name, data in members:
            info = zipfile.ZipInfo("x", (2020, 1, 1, 0, 0, 0))
            info.filename, info.compress_type = name, zipfile.ZIP_DEFLATED
            packed.writestr(info, data)
    return file.with_suffix(".zip")


def as_tar(file: Path, members: Iterable[tuple[str, bytes]], form: int = tarfile.PAX_FORMAT) -> Path:
    path = file.with_suffix(".tar.gz")
    with tarfile.open(path, "w:gz", format=form) as packed:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            packed.addfile(info, io.BytesIO(data))
    return path


def as_gnu_tar(file: Path, members: Iterable[tuple[str, bytes]]) -> Path:
    return as_tar(file, members, tarfile.GNU_FORMAT)


every_form = pytest.mark.parametrize("pack", [as_zip, as_tar, as_gnu_tar])


def refused(archive: Path, work: Path, words: str) -> None:
    """It is refused in one sentence that names it, and nothing of it is left."""
    work.mkdir()
    with pytest.raises(DataError, match=words) as caught:
        unpack(archive, work / "out")
    assert str(archive) in str(caught.value)
    assert "\n" not in str(caught.value)
    str(caught.value).encode()
    assert list(work.iterdir()) == []


@every_form
def test_a_packed_folder_is_there_as_it_was(pack: Pack, tmp_path: Path) -> None:
    deep = "a folder/" * 9 + "é" * 80 + ".png"
    members = {"./one.png": a_picture(), "cats/two.png": a_picture(1), "cats/two.txt": b"a cat", deep: b"x"}
    hidden = {"__MACOSX/._one.png": b"x", "cats/.DS_Store": b"x"}
    unpack(pack(tmp_path / "a", (members | hidden).items()), tmp_path / "out")
    found = {file for file in (tmp_path / "out").rglob("*") if file.is_file()}
    assert {str(file.relative_to(tmp_path / "out")): file.read_bytes() for file in found} == {
        name.removeprefix("./"): data for name, data in members.items()
    }
    assert not any(stat.S_IMODE(file.stat().st_mode) & 0o111 for file in found)


ELSEWHERE = [
    "../out.png", "a/../../out.png", "/etc/out.png", "//host/share/x.png", "C:/x.png", "C:\\x.png",
    "..\\x.png", "\\\\host\\x.png", "a/./b.png", "a//b.png", "nul.png", "a/COM1", "a./b.png", "a /b.png",
    "x\n.png", "x\u202e.png", ".../x", "a/..", "x" * 250,
]  # fmt: skip


@every_form
@pytest.mark.parametrize("name", ELSEWHERE)
def test_names_that_lead_elsewhere_or_are_no_names_everywhere_are_refused(
    pack: Pack, name: str, tmp_path: Path
) -> None:
    archive = pack(tmp_path / "a", [("good.png", a_picture()), (name, b"x")])
    refused(archive, tmp_path / "work", "no name everywhere")
    assert not (tmp_path / "out.png").exists()


def test_a_name_that_is_cut_at_a_nul_is_refused(tmp_path: Path) -> None:
    refused(as_zip(tmp_path / "a", [("good.png\0.exe", b"x")]), tmp_path / "work", "no name everywhere")


@every_form
@pytest.mark.filterwarnings("ignore:Duplicate name")  # of zipfile, which writes it all the same
@pytest.mark.parametrize(
    "names",
    [("a.png", "a.png"), ("a.png", "A.PNG"), ("\u00e9.png", "e\u0301.png"), ("a", "a/b"), ("a/b", "A")],
)
def test_one_name_for_two_files_is_refused(pack: Pack, names: tuple[str, str], tmp_path: Path) -> None:
    refused(pack(tmp_path / "a", [(name, b"x") for name in names]), tmp_path / "work", "twice, or under two")


@pytest.mark.parametrize(
    "kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE]
)
def test_links_and_devices_in_a_tar_are_refused(kind: bytes, tmp_path: Path) -> None:
    info = tarfile.TarInfo("evil")
    info.type, info.linkname = kind, "/etc/passwd"
    with tarfile.open(tmp_path / "a.tgz", "w:gz") as packed:
        packed.addfile(info)
    refused(tmp_path / "a.tgz", tmp_path / "work", "'evil', a link or a device")


@pytest.mark.parametrize("mode", [stat.S_IFLNK, stat.S_IFCHR, stat.S_IFIFO, stat.S_IFSOCK])
def test_links_and_devices_in_a_zip_are_refused(mode: int, tmp_path: Path) -> None:
    info = zipfile.ZipInfo("evil")
    info.create_system, info.external_attr = 3, (mode | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as packed:
        packed.writestr(info, "/etc/passwd")
    refused(tmp_path / "a.zip", tmp_path / "work", "'evil', a link or a device")


def test_holes_and_endless_headers_in_a_tar_are_refused(tmp_path: Path) -> None:
    for number, (kind, size, words) in enumerate(
        [(tarfile.GNUTYPE_SPARSE, 0, "a link or a device"), (tarfile.XHDTYPE, 2**40, "a name of"),
         (tarfile.GNUTYPE_LONGNAME, 2**40, "a name of")]
    ):  # fmt: skip
        info = tarfile.TarInfo("evil")
        info.type, info.size = kind, size
        archive = tmp_path / f"{number}.tgz"
        archive.write_bytes(gzip.compress(info.tobuf(tarfile.GNU_FORMAT) + b"\0" * 1024))
        refused(archive, tmp_path / f"work{number}", words)
    info = tarfile.TarInfo("evil")
    info.pax_headers = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0"}
    with tarfile.open(tmp_path / "a.tgz", "w:gz", format=tarfile.PAX_FORMAT) as packed:
        packed.addfile(info)
    refused(tmp_path / "a.tgz", tmp_path / "work", "with holes")


@every_form
def test_a_bomb_is_stopped_while_it_unpacks(
    pack: Pack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archives, "FREE_BYTES", 2**20)
    archive = pack(tmp_path / "a", [(f"{number}.png", b"\0" * 2**20) for number in range(5)])
    assert archive.stat().st_size < 20_000
    refused(archive, tmp_path / "work", r"unpacks to more than [\d,]+ bytes")


@every_form
def test_too_many_members_and_too_deep_ones_are_refused(
    pack: Pack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused(pack(tmp_path / "deep", [("a/" * 20 + "b", b"")]), tmp_path / "work1", "folders deep")
    monkeypatch.setattr(archives, "MAX_MEMBERS", 3)
    archive = pack(tmp_path / "a", [(str(number), b"") for number in range(4)])
    refused(archive, tmp_path / "work2", "more than 3 files")


def test_what_is_locked_or_packed_in_a_way_that_takes_memory_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_LZMA) as packed:
        packed.writestr("a.png", b"x")
    refused(tmp_path / "a.zip", tmp_path / "work1", "packed by method 14")
    locked = bytearray(as_zip(tmp_path / "b", [("a.png", b"x")]).read_bytes())
    locked[6] |= 1
    locked[locked.index(b"PK\1\2") + 8] |= 1
    (tmp_path / "b.zip").write_bytes(locked)
    refused(tmp_path / "b.zip", tmp_path / "work2", "encrypted")


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), pack=st.sampled_from([as_zip, as_tar]))
def test_a_damaged_archive_is_unpacked_or_leaves_nothing(
    tmp_path: Path, data: st.DataObject, pack: Pack
) -> None:
    work = Path(tempfile.mkdtemp(dir=tmp_path))
    whole = {"a/one.png": a_picture(), "two.png": b"x" * 3000}
    archive = pack(work / "a", whole.items())
    content = bytearray(archive.read_bytes())
    if data.draw(st.booleans()) and pack is as_tar:  # damage under the sum that gzip keeps
        content = bytearray(gzip.decompress(content))
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    content = content[: data.draw(st.integers(0, len(content)))]
    archive.write_bytes(
        content if content[:1] in (b"P", b"\x1f") or pack is as_zip else gzip.compress(content)
    )
    before = set(work.iterdir())
    try:
        unpack(archive, work / "out")
    except StudioError:
        assert set(work.iterdir()) == before
    else:
        assert (work / "out").is_dir()


@every_form
def test_a_dataset_in_an_archive_is_what_it_is_in_a_folder(pack: Pack, tmp_path: Path) -> None:
    members = [("cats/one.png", a_picture()), ("cats/one.txt", b"a cat"), ("two.png", a_picture(1))]
    archive = pack(tmp_path / "a", [*members, ("bad.png", b"x"), ("inner.zip", b"PK\3\4")])
    skipped: list[Skipped] = []
    index = open_index(str(archive), tmp_path / "cache", skipped.append)
    assert sorted(index.entry(number).captions[0] for number in range(len(index))) == ["a cat", "two"]
    names = [Path(one.name).relative_to(archive).as_posix() for one in skipped]
    assert sorted(names) == ["bad.png", "inner.zip"]  # what is packed inside stays packed
    again = open_index(str(archive), tmp_path / "cache", skipped.append)
    assert again.facts == index.facts
    assert len(list((tmp_path / "cache").glob("unpacked-*/"))) == 1


def test_a_refused_archive_leaves_no_cache_behind(tmp_path: Path) -> None:
    archive = as_zip(tmp_path / "a", [("../x", b"x")])
    with pytest.raises(DataError):
        open_index(str(archive), tmp_path / "runs/cache", print)
    with pytest.raises(DataError, match=r"bad\.zip has no usable picture"):
        open_index(str(as_zip(tmp_path / "bad", [("a.png", b"x")])), tmp_path / "runs/cache", lambda _: None)
    with pytest.raises(DataError, match="there is no"):
        unpack_once(tmp_path / "nowhere.zip", tmp_path / "runs/cache")
    assert not list(tmp_path.glob("runs/cache/unpacked-*"))


def test_the_page_looks_into_an_archive_and_keeps_nothing_of_it(tmp_path: Path) -> None:
    archive = as_zip(tmp_path / "pictures", [("one.png", a_picture()), ("bad.png", b"x")])
    found = look_into(folder_named(f' "{archive}" '))
    assert (found.count, len(found.shown)) == (1, 1)
    assert [one.name for one in found.skipped] == [str(archive / "bad.png")]
    assert set(tmp_path.iterdir()) == {archive}
    with pytest.raises(RequestError, match="twice"):
        look_into(as_zip(tmp_path / "twice", [("a", b""), ("A", b"")]))


def test_shards_and_addresses_are_no_archives() -> None:
    assert [is_archive(path) for path in ("a.ZIP", "b.tar.gz", "c.tgz", "d.tar", "e", "s3://f/g.zip")] == [
        True, True, True, False, False, False,
    ]  # fmt: skip
