"""The password file: what it holds, who it refuses, and that it is written whole or not at all."""

import getpass
import hashlib
import io
import os
import stat
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app import security
from app.security import Accounts, PasswordRecord, add_user, read_password_file, set_password
from models.errors import RequestError

PASSWORD = "correct horse"


@pytest.fixture(scope="module")
def record() -> PasswordRecord:
    return PasswordRecord.from_password(PASSWORD)


@pytest.fixture
def auth_file(tmp_path: Path, record: PasswordRecord) -> Path:
    path = tmp_path / "people.txt"
    path.write_text(f"{security.HEADER}ann:{record.to_text()}\n")
    return path


def test_a_password_is_stored_as_scrypt_with_a_salt_of_its_own(record: PasswordRecord) -> None:
    other = PasswordRecord.from_password(PASSWORD)
    assert len(record.salt) >= 16
    assert record.salt != other.salt
    assert record.digest != other.digest
    assert PASSWORD not in record.to_text()
    log2_cost, block_size, parallel = record.cost
    assert (128 * block_size << log2_cost) >= 32 * 2**20  # what one guess costs in memory
    expected = hashlib.scrypt(
        PASSWORD.encode(),
        salt=record.salt,
        n=1 << log2_cost,
        r=block_size,
        p=parallel,
        maxmem=2**27,
        dklen=32,
    )
    assert record.digest == expected


def test_only_the_password_itself_matches(record: PasswordRecord) -> None:
    assert record.matches(PASSWORD)
    for wrong in ("", "correct hors", "correct horse ", "Correct horse"):
        assert not record.matches(wrong)


def test_both_ways_to_type_an_accent_are_one_password() -> None:
    assert PasswordRecord.from_password("caf\u00e9 au lait").matches("cafe\u0301 au lait")


def test_a_record_survives_the_file(record: PasswordRecord) -> None:
    assert PasswordRecord.from_text(record.to_text()) == record


@given(st.text())
def test_any_other_text_is_no_record(text: str) -> None:
    with pytest.raises(ValueError, match="scrypt"):
        PasswordRecord.from_text(text)


@pytest.mark.parametrize("cost", ["ln=21,r=8,p=1", "ln=0,r=8,p=1", "ln=15,r=99,p=1", "ln=15,r=8,p=0"])
def test_a_cost_that_would_exhaust_the_machine_is_refused(record: PasswordRecord, cost: str) -> None:
    text = record.to_text().replace("ln=15,r=8,p=3", cost)
    with pytest.raises(ValueError, match="cost"):
        PasswordRecord.from_text(text)


def test_the_file_is_new_or_replaced_whole_and_for_its_owner_only(tmp_path: Path) -> None:
    path = tmp_path / "people.txt"
    assert set_password(path, "ann", PASSWORD)
    assert set_password(path, "bob", PASSWORD)
    assert not set_password(path, "ann", "battery staple")
    accounts = Accounts(path)
    assert accounts.verify("ann", "battery staple") is not None
    assert accounts.verify("ann", PASSWORD) is None
    assert accounts.verify("bob", PASSWORD) is not None
    assert os.listdir(tmp_path) == ["people.txt"]  # no half-written file stays
    if os.name == "posix":
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(
    auth_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = auth_file.read_bytes()

    def full_disk(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.raises(RequestError, match="No space left"):
        set_password(auth_file, "bob", PASSWORD)
    assert auth_file.read_bytes() == before
    assert os.listdir(auth_file.parent) == [auth_file.name]


@pytest.mark.parametrize(
    "user", ["", ":", "a:b", "a b", "-ann", "ann\n", "ann\u00e9", "x" * 65, "../ann", "<b>"]
)
def test_a_name_that_cannot_stand_in_the_file_is_refused(tmp_path: Path, user: str) -> None:
    with pytest.raises(RequestError, match="user name"):
        set_password(tmp_path / "people.txt", user, PASSWORD)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    "password", ["", "short", "1234567", "x" * 1025, "two\nlines!", "nul\0byte", "ANN-MARIE"]
)
def test_a_password_not_worth_storing_is_refused(tmp_path: Path, password: str) -> None:
    with pytest.raises(RequestError, match="password") as caught:
        set_password(tmp_path / "people.txt", "ann-marie", password)
    assert not password or password not in str(caught.value)
    assert os.listdir(tmp_path) == []


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="no folder"):
        set_password(tmp_path / "nowhere" / "people.txt", "ann", PASSWORD)


@pytest.mark.parametrize("line", ["ann", "ann:secret words", "a b:{record}", "ann:{record}\nann:{record}"])
def test_a_damaged_line_is_named_but_not_shown(tmp_path: Path, record: PasswordRecord, line: str) -> None:
    path = tmp_path / "people.txt"
    path.write_text("# people\n" + line.format(record=record.to_text()))
    with pytest.raises(RequestError, match=r"Line [23]") as caught:
        read_password_file(path)
    assert "secret words" not in str(caught.value)
    assert record.to_text() not in str(caught.value)


def test_a_changed_file_counts_at_once_and_a_lost_or_damaged_one_holds_nobody(
    auth_file: Path, record: PasswordRecord
) -> None:
    accounts = Accounts(auth_file)
    text = auth_file.read_text()
    assert accounts.record("ann") == record
    auth_file.write_text(f"{text}bob:{record.to_text()}\n")
    assert accounts.record("bob") == record
    auth_file.write_text("ann:damaged\n")
    assert accounts.record("ann") is None
    auth_file.write_text(text)
    assert accounts.record("ann") == record
    auth_file.unlink()
    assert accounts.record("ann") is None


def test_a_stranger_costs_as_much_work_as_a_known_name(
    auth_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    accounts = Accounts(auth_file)
    hashed: list[str] = []
    original = PasswordRecord.hash

    def counting(self: PasswordRecord, password: str) -> bytes:
        hashed.append(password)
        return original(self, password)

    monkeypatch.setattr(PasswordRecord, "hash", counting)
    assert accounts.verify("nobody", PASSWORD) is None
    assert accounts.verify("ann", "wrong password") is None
    assert hashed == [PASSWORD, "wrong password"]


def type_in(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO(text))


def test_auth_add_reads_the_password_twice_from_standard_input(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "people.txt"
    type_in(monkeypatch, f"{PASSWORD}\n{PASSWORD}\n")
    add_user("ann", path)
    assert Accounts(path).verify("ann", PASSWORD) is not None
    said = capsys.readouterr()
    assert "ann" in said.out
    assert PASSWORD not in said.out + said.err


@pytest.mark.parametrize("typed", ["", "correct horse\n", "correct horse\ncorrect hors\n", "short\nshort\n"])
def test_auth_add_stores_nothing_when_the_passwords_differ_or_are_short(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, typed: str
) -> None:
    type_in(monkeypatch, typed)
    with pytest.raises(RequestError, match="password"):
        add_user("ann", tmp_path / "people.txt")
    assert os.listdir(tmp_path) == []


def test_on_a_terminal_the_password_is_asked_for_unseen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    def unseen(prompt: str) -> str:
        asked.append(prompt)
        return PASSWORD

    monkeypatch.setattr(sys, "stdin", Terminal())
    monkeypatch.setattr(getpass, "getpass", unseen)
    add_user("ann", tmp_path / "people.txt")
    assert len(asked) == 2
    assert set(read_password_file(tmp_path / "people.txt")) == {"ann"}
