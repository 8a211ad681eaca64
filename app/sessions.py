"""Who is at the door: session tokens, passwords sent by programs, and how often a stranger may guess."""

import asyncio
import base64
import binascii
import hashlib
import hmac
import ipaddress
import secrets
import time
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass

from app.limits import (
    ATTEMPT_WINDOW_SECONDS,
    MAX_ATTEMPTS_IN_ALL,
    MAX_ATTEMPTS_PER_ADDRESS,
    MAX_ATTEMPTS_PER_NAME,
    MAX_KNOWN_PLACES,
    MAX_REMEMBERED_PASSWORDS,
    MAX_SESSIONS,
    PASSWORDS_AT_ONCE,
    REMEMBERED_PASSWORD_SECONDS,
    SESSION_IDLE_SECONDS,
    SESSION_SECONDS,
)
from app.security import Accounts, PasswordRecord

Clock = Callable[[], float]


@dataclass(slots=True)
class Grant:
    """A person who came in, the password record they came in with, when that ends, when it was last used."""

    user: str
    record: PasswordRecord
    expires: float
    used: float


@dataclass(frozen=True, slots=True)
class TryLater:
    """Too many wrong passwords; nothing was looked at."""

    wait_seconds: int


class Attempts:
    """Counts tries at passwords within a sliding window: per address, per name, and in all.

    A try is counted before it is looked at, so that many at once do not slip through, and taken back when it
    was right. Refused tries are not counted, so the memory is bounded by the limits.

    Strangers' guesses must not keep a person out: at an address where a name came in before, only the wrong
    tries at that name from there count against it.
    """

    def __init__(self, clock: Clock = time.monotonic) -> None:
        self._clock = clock
        self._strangers: deque[tuple[float, str, str]] = deque()
        self._known: OrderedDict[tuple[str, str], deque[float]] = OrderedDict()

    def wait(self, user: str, address: str) -> TryLater | None:
        """How long this name has to wait at this address, None where it need not."""
        now, group = self._clock(), address_group(address)
        since = now - ATTEMPT_WINDOW_SECONDS
        known = self._known.get((user, group))
        if known is not None:
            while known and known[0] <= since:
                known.popleft()
            full = [known[0]] if len(known) >= MAX_ATTEMPTS_PER_ADDRESS else []
        else:
            while self._strangers and self._strangers[0][0] <= since:
                self._strangers.popleft()
            counted = (
                ([at for at, _, where in self._strangers if where == group], MAX_ATTEMPTS_PER_ADDRESS),
                ([at for at, whose, _ in self._strangers if whose == user], MAX_ATTEMPTS_PER_NAME),
                ([at for at, _, _ in self._strangers], MAX_ATTEMPTS_IN_ALL),
            )
            full = [times[0] for times, limit in counted if len(times) >= limit]
        return TryLater(int(max(full) - since) + 1) if full else None

    def begin(self, user: str, address: str) -> TryLater | None:
        """Count a try at this name from this address, or say how long it has to wait."""
        wait = self.wait(user, address)
        if wait is None:
            group = address_group(address)
            known = self._known.get((user, group))
            if known is not None:
                known.append(self._clock())
            else:
                self._strangers.append((self._clock(), user, group))
        return wait

    def was_right(self, user: str, address: str) -> None:
        """Forget this name's newest try from this address, and know the name there from now on."""
        group = address_group(address)
        known = self._known.setdefault((user, group), deque())
        self._known.move_to_end((user, group))
        if known:
            known.pop()
        for index in range(len(self._strangers) - 1, -1, -1):
            if self._strangers[index][1:] == (user, group):
                del self._strangers[index]
                break
        while len(self._known) > MAX_KNOWN_PLACES:
            self._known.popitem(last=False)


class Doorkeeper:
    """Checks passwords and tokens against the accounts; all but scrypt itself runs on the event loop."""

    def __init__(self, accounts: Accounts, clock: Clock = time.monotonic) -> None:
        self._accounts = accounts
        self._clock = clock
        self._attempts = Attempts(clock)
        # Keys are hashes of the secrets, so a look-up's timing tells nothing about them.
        self._sessions: OrderedDict[bytes, Grant] = OrderedDict()
        self._passwords: OrderedDict[bytes, Grant] = OrderedDict()
        self._key = secrets.token_bytes(32)
        self._looked_at = asyncio.Semaphore(PASSWORDS_AT_ONCE)

    async def log_in(self, user: str, password: str, address: str) -> str | TryLater | None:
        """A new 256-bit session token for the right password, None for a wrong one."""
        grant = await self._check(user, password, address)
        if not isinstance(grant, Grant):
            return grant
        token = secrets.token_urlsafe(32)
        _store(self._sessions, self._digest(token), grant, MAX_SESSIONS)
        return token

    def log_out(self, token: str) -> None:
        """End a session; an unknown token is no error."""
        self._sessions.pop(self._digest(token), None)

    def session_user(self, token: str) -> str | None:
        """Whose session this is, None when it ended, or when the person left or changed their password."""
        return self._current_user(self._sessions, self._digest(token))

    async def authorization_user(self, header: str, address: str) -> str | TryLater | None:
        """The person in an `Authorization` header: Basic, Bearer TOKEN, or Bearer NAME:PASSWORD."""
        scheme, _, value = header.partition(" ")
        value = value.strip()
        if scheme.lower() == "basic":
            try:
                value = base64.b64decode(value, validate=True).decode()
            except (binascii.Error, UnicodeDecodeError):
                return None
        elif scheme.lower() != "bearer":
            return None
        elif ":" not in value:
            return self.session_user(value)
        user, _, password = value.partition(":")
        # Remembered for its address alone, and not while that is out of tries: elsewhere, or any number of
        # times, a look here would be a way to guess that costs no scrypt and is not counted.
        key = self._digest(f"{address_group(address)} {user}:{password}")
        known = self._current_user(self._passwords, key)
        if known is not None and self._attempts.wait(user, address) is None:
            return known
        grant = await self._check(user, password, address, remember_as=key)
        return grant.user if isinstance(grant, Grant) else grant

    async def _check(
        self, user: str, password: str, address: str, remember_as: bytes | None = None
    ) -> Grant | TryLater | None:
        wait = self._attempts.begin(user, address)
        if wait is not None:
            return wait
        async with self._looked_at:
            record = await asyncio.to_thread(self._accounts.verify, user, password)
        if record is None:
            return None
        self._attempts.was_right(user, address)
        now = self._clock()
        if remember_as is not None:
            kept = Grant(user, record, now + REMEMBERED_PASSWORD_SECONDS, now)
            _store(self._passwords, remember_as, kept, MAX_REMEMBERED_PASSWORDS)
        return Grant(user, record, now + SESSION_SECONDS, now)

    def _current_user(self, grants: OrderedDict[bytes, Grant], key: bytes) -> str | None:
        grant = grants.get(key)
        if grant is None:
            return None
        now = self._clock()
        ended = now >= grant.expires or now >= grant.used + SESSION_IDLE_SECONDS
        if ended or self._accounts.record(grant.user) != grant.record:
            del grants[key]
            return None
        grant.used = now
        return grant.user

    def _digest(self, secret: str) -> bytes:
        return hmac.new(self._key, secret.encode(errors="surrogatepass"), hashlib.sha256).digest()


def _store(grants: OrderedDict[bytes, Grant], key: bytes, grant: Grant, limit: int) -> None:
    grants[key] = grant
    while len(grants) > limit:
        grants.popitem(last=False)


def address_group(address: str) -> str:
    """One household, as far as an address tells: an IPv4 address, or the first 64 bits of an IPv6 one."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address
    if isinstance(parsed, ipaddress.IPv6Address):
        if parsed.ipv4_mapped is not None:
            return str(parsed.ipv4_mapped)
        return str(ipaddress.ip_network((parsed, 64), strict=False))
    return str(parsed)
