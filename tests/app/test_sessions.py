"""Sessions and guesses over time; the clock is turned by hand."""

import asyncio
import base64
from pathlib import Path

import pytest

from app.limits import (
    ATTEMPT_WINDOW_SECONDS,
    MAX_ATTEMPTS_IN_ALL,
    MAX_ATTEMPTS_PER_ADDRESS,
    MAX_ATTEMPTS_PER_NAME,
    MAX_SESSIONS,
    REMEMBERED_PASSWORD_SECONDS,
    SESSION_IDLE_SECONDS,
    SESSION_SECONDS,
)
from app.security import Accounts, set_password
from app.sessions import Attempts, Doorkeeper, TryLater

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
    end = clock.now + SESSION_SECONDS
    while clock.now + SESSION_IDLE_SECONDS - 1 < end:  # used all the time, it ends all the same
        clock.now += SESSION_IDLE_SECONDS - 1
        assert keeper.session_user(token) == "ann"
    clock.now = end
    assert keeper.session_user(token) is None


def test_a_session_that_is_not_used_for_a_day_ends(keeper: Doorkeeper, clock: Clock) -> None:
    token = log_in(keeper)
    clock.now += SESSION_IDLE_SECONDS
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
        assert attempts.begin("ann", HOME) is None
        attempts.was_right("ann", HOME)


def addresses(count: int) -> list[str]:
    return [f"203.0.{n // 250}.{n % 250}" for n in range(count)]


def test_guesses_at_one_name_from_many_addresses_run_out(clock: Clock) -> None:
    attempts = Attempts(clock)
    answers = [attempts.begin("ann", address) for address in addresses(1000)]
    assert answers.count(None) == MAX_ATTEMPTS_PER_NAME
    assert attempts.begin("bob", HOME) is None
    clock.now += ATTEMPT_WINDOW_SECONDS
    assert attempts.begin("ann", AWAY) is None


def test_many_names_from_many_addresses_together_run_out_too(clock: Clock) -> None:
    attempts = Attempts(clock)
    answers = [attempts.begin(f"name {address}", address) for address in addresses(1000)]
    assert answers.count(None) == MAX_ATTEMPTS_IN_ALL
    clock.now += ATTEMPT_WINDOW_SECONDS
    assert attempts.begin("ann", AWAY) is None


def test_no_guesses_of_others_keep_a_person_out_where_they_came_in_before(
    keeper: Doorkeeper, clock: Clock
) -> None:
    token = log_in(keeper)
    attempts = keeper._attempts
    for address in addresses(1000):  # at her name, at others', and at others' from her own address
        attempts.begin("ann", address)
        attempts.begin("bob", address)
        attempts.begin("bob", HOME)
    assert isinstance(asyncio.run(keeper.log_in("ann", PASSWORD, AWAY)), TryLater)
    assert isinstance(asyncio.run(keeper.log_in("ann", PASSWORD, HOME)), str)
    assert keeper.session_user(token) == "ann"


def test_a_password_that_is_remembered_cannot_be_guessed_past_the_limit(keeper: Doorkeeper) -> None:
    header = basic("ann", PASSWORD)
    assert asyncio.run(keeper.authorization_user(header, HOME)) == "ann"
    for place in (HOME, AWAY):
        for n in range(MAX_ATTEMPTS_PER_ADDRESS):
            assert asyncio.run(keeper.authorization_user(basic("ann", f"guess {n}"), place)) is None
        assert isinstance(asyncio.run(keeper.authorization_user(header, place)), TryLater)


def test_one_ipv6_household_is_one_address(clock: Clock) -> None:
    attempts = Attempts(clock)
    answers = [attempts.begin("ann", f"2001:db8::{n:x}") for n in range(1, 20)]
    assert answers.count(None) == MAX_ATTEMPTS_PER_ADDRESS
    assert attempts.begin("ann", "2001:db8:0:1::1") is None


def test_one_password_is_looked_at_at_a_time(keeper: Doorkeeper, monkeypatch: pytest.MonkeyPatch) -> None:
    running, most = 0, 0
    verify = Accounts.verify

    def watched(self: Accounts, user: str, password: str) -> object:
        nonlocal running, most
        running += 1
        most = max(most, running)
        try:
            return verify(self, user, password)
        finally:
            running -= 1

    monkeypatch.setattr(Accounts, "verify", watched)

    async def many() -> None:
        await asyncio.gather(*(keeper.log_in("ann", "wrong guess", f"203.0.113.{n}") for n in range(8)))

    asyncio.run(many())
    assert most == 1


def test_the_oldest_sessions_make_room(keeper: Doorkeeper, monkeypatch: pytest.MonkeyPatch) -> None:
    first = log_in(keeper)
    monkeypatch.setattr(Accounts, "verify", lambda self, user, _password: self.record(user))
    newest = [log_in(keeper) for _ in range(MAX_SESSIONS)]
    assert keeper.session_user(first) is None
    assert keeper.session_user(newest[0]) == keeper.session_user(newest[-1]) == "ann"
