"""Sessions and guesses over time; the clock is turned by hand."""

import asyncio
import base64
from pathlib import Path

import pytest

from app.security import Accounts, set_password
from app.sessions import (
    ATTEMPT_WINDOW_SECONDS,
    MAX_ATTEMPTS_IN_ALL,
    MAX_ATTEMPTS_PER_ADDRESS,
    MAX_SESSIONS,
    REMEMBERED_PASSWORD_SECONDS,
    SESSION_SECONDS,
    Attempts,
    Doorkeeper,
    TryLater,
)

PASSWORD = "correct horse"
HOME, AWAY = "127.0.0.1", "203.0.113.9"


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def auth_file(tmp_path: Path) -> Path:
    set_password(tmp_path / "people.txt", "ann", PASSWORD)
    return tmp_path / "people.txt"


@pytest.fixture
def keeper(auth_file: Path, clock: Clock) -> Doorkeeper:
    return Doorkeeper(Accounts(auth_file), clock)


def log_in(keeper: Doorkeeper, password: str = PASSWORD) -> str:
    token = asyncio.run(keeper.log_in("ann", password, HOME))
    assert isinstance(token, str)
    return token


def basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


def test_a_token_has_256_bits_is_new_each_time_and_ends_at_its_hour(keeper: Doorkeeper, clock: Clock) -> None:
    token, other = log_in(keeper), log_in(keeper)
    assert token != other
    assert len(base64.urlsafe_b64decode(token + "=")) == 32
    clock.now += SESSION_SECONDS - 1
    assert keeper.session_user(token) == "ann"
    clock.now += 1
    assert keeper.session_user(token) is None


def test_logging_out_ends_one_session_only(keeper: Doorkeeper) -> None:
    token, other = log_in(keeper), log_in(keeper)
    keeper.log_out(token)
    keeper.log_out("never was one")
    assert keeper.session_user(token) is None
    assert keeper.session_user(other) == "ann"


def test_a_new_password_ends_the_sessions_of_the_old_one(keeper: Doorkeeper, auth_file: Path) -> None:
    token = log_in(keeper)
    set_password(auth_file, "bob", PASSWORD)
    assert keeper.session_user(token) == "ann"
    set_password(auth_file, "ann", "battery staple")
    assert keeper.session_user(token) is None
    assert asyncio.run(keeper.log_in("ann", PASSWORD, HOME)) is None


def test_a_person_taken_out_of_the_file_is_out_at_once(keeper: Doorkeeper, auth_file: Path) -> None:
    token, header = log_in(keeper), basic("ann", PASSWORD)
    assert asyncio.run(keeper.authorization_user(header, HOME)) == "ann"
    auth_file.write_text("")
    assert keeper.session_user(token) is None
    assert asyncio.run(keeper.authorization_user(header, HOME)) is None


def test_programs_may_send_the_password_or_a_token(keeper: Doorkeeper) -> None:
    for header in (basic("ann", PASSWORD), f"Bearer ann:{PASSWORD}", f"bearer {log_in(keeper)}"):
        assert asyncio.run(keeper.authorization_user(header, HOME)) == "ann"


@pytest.mark.parametrize(
    "header",
    ["", "Basic", "Basic !!!", "Basic YQ==", "Bearer", "Bearer x", "Digest ann", "ann:correct horse"],
)
def test_any_other_authorization_is_nobody(keeper: Doorkeeper, header: str) -> None:
    assert asyncio.run(keeper.authorization_user(header, HOME)) is None


def test_a_password_sent_with_every_request_is_hashed_once_in_a_while(
    auth_file: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    checks: list[str] = []
    verify = Accounts.verify

    def counting(self: Accounts, user: str, password: str) -> object:
        checks.append(user)
        return verify(self, user, password)

    monkeypatch.setattr(Accounts, "verify", counting)
    keeper = Doorkeeper(Accounts(auth_file), clock)
    for _ in range(5):
        assert asyncio.run(keeper.authorization_user(basic("ann", PASSWORD), HOME)) == "ann"
    assert len(checks) == 1
    clock.now += REMEMBERED_PASSWORD_SECONDS
    assert asyncio.run(keeper.authorization_user(basic("ann", PASSWORD), HOME)) == "ann"
    assert len(checks) == 2


def test_wrong_passwords_run_out_before_anything_is_hashed(keeper: Doorkeeper, clock: Clock) -> None:
    async def guess_all_at_once() -> list[str | TryLater | None]:
        return await asyncio.gather(*(keeper.log_in("ann", f"guess {n}", AWAY) for n in range(20)))

    answers = asyncio.run(guess_all_at_once())
    assert answers.count(None) == MAX_ATTEMPTS_PER_ADDRESS
    late = asyncio.run(keeper.log_in("ann", PASSWORD, AWAY))
    assert isinstance(late, TryLater)
    assert 0 < late.wait_seconds <= ATTEMPT_WINDOW_SECONDS + 1
    assert isinstance(asyncio.run(keeper.authorization_user(basic("ann", PASSWORD), AWAY)), TryLater)
    assert isinstance(asyncio.run(keeper.log_in("ann", PASSWORD, HOME)), str)
    clock.now += late.wait_seconds
    assert isinstance(asyncio.run(keeper.log_in("ann", PASSWORD, AWAY)), str)


def test_right_passwords_never_run_out(clock: Clock) -> None:
    attempts = Attempts(clock)
    for _ in range(10 * MAX_ATTEMPTS_IN_ALL):
        assert attempts.begin(HOME) is None
        attempts.take_back(HOME)


def test_many_addresses_together_run_out_too(clock: Clock) -> None:
    attempts = Attempts(clock)
    answers = [attempts.begin(f"203.0.{n // 250}.{n % 250}") for n in range(1000)]
    assert answers.count(None) == MAX_ATTEMPTS_IN_ALL
    clock.now += ATTEMPT_WINDOW_SECONDS
    assert attempts.begin(AWAY) is None


def test_one_ipv6_household_is_one_address(clock: Clock) -> None:
    attempts = Attempts(clock)
    answers = [attempts.begin(f"2001:db8::{n:x}") for n in range(1, 20)]
    assert answers.count(None) == MAX_ATTEMPTS_PER_ADDRESS
    assert attempts.begin("2001:db8:0:1::1") is None


def test_the_oldest_sessions_make_room(keeper: Doorkeeper, monkeypatch: pytest.MonkeyPatch) -> None:
    first = log_in(keeper)
    monkeypatch.setattr(Accounts, "verify", lambda self, user, _password: self.record(user))
    newest = [log_in(keeper) for _ in range(MAX_SESSIONS)]
    assert keeper.session_user(first) is None
    assert keeper.session_user(newest[0]) == keeper.session_user(newest[-1]) == "ann"
