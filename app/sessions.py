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

from app.security import Accounts, PasswordRecord

SESSION_SECONDS = 7 * 24 * 3600
MAX_SESSIONS = 1000
# A program that sends its password with every request pays for scrypt once in this time.
REMEMBERED_PASSWORD_SECONDS = 600
MAX_REMEMBERED_PASSWORDS = 256
ATTEMPT_WINDOW_SECONDS = 300
MAX_ATTEMPTS_PER_ADDRESS = 5
MAX_ATTEMPTS_IN_ALL = 60

Clock = Callable[[], float]


@dataclass(frozen=True, slots=True)
class Grant:
    """A person who came in, the password record they came in with, and when that ends."""

    user: str
    record: PasswordRecord
    expires: float


@dataclass(frozen=True, slots=True)
class TryLater:
    """Too many wrong passwords; nothing was looked at."""

    wait_seconds: int


class Attempts:
    """Counts tries at passwords, per address and in all, within a sliding window.

    A try is counted before it is looked at, so that many at once do not slip through, and taken back when it
    was right. Refused tries are not counted, so the memory is bounded by the limit in all.
    """

    def __init__(self, clock: Clock = time.monotonic) -> None:
        self._clock = clock
        self._times: deque[tuple[float, str]] = deque()

    def begin(self, address: str) -> TryLater | None:
        """Count a try from this address, or say how long it has to wait."""
        now = self._clock()
        while self._times and self._times[0][0] <= now - ATTEMPT_WINDOW_SECONDS:
            self._times.popleft()
        group = _address_group(address)
        mine = [at for at, whose in self._times if whose == group]
        oldest = None
        if len(mine) >= MAX_ATTEMPTS_PER_ADDRESS:
            oldest = mine[0]
        elif len(self._times) >= MAX_ATTEMPTS_IN_ALL:
            oldest = self._times[0][0]
        if oldest is not None:
            return TryLater(int(oldest + ATTEMPT_WINDOW_SECONDS - now) + 1)
        self._times.append((now, group))
        return None

    def take_back(self, address: str) -> None:
        """Forget this address's newest try: the password was right."""
        group = _address_group(address)
        for index in range(len(self._times) - 1, -1, -1):
            if self._times[index][1] == group:
                del self._times[index]
                return


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
        self._one_at_a_time = asyncio.Semaphore(1)  # 32 MiB and a core for each try: never many at once

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
        key = self._digest(f"{user}:{password}")
        known = self._current_user(self._passwords, key)
        if known is not None:
            return known
        grant = await self._check(user, password, address, remember_as=key)
        return grant.user if isinstance(grant, Grant) else grant

    async def _check(
        self, user: str, password: str, address: str, remember_as: bytes | None = None
    ) -> Grant | TryLater | None:
        wait = self._attempts.begin(address)
        if wait is not None:
            return wait
        async with self._one_at_a_time:
            record = await asyncio.to_thread(self._accounts.verify, user, password)
        if record is None:
            return None
        self._attempts.take_back(address)
        now = self._clock()
        if remember_as is not None:
            kept = Grant(user, record, now + REMEMBERED_PASSWORD_SECONDS)
            _store(self._passwords, remember_as, kept, MAX_REMEMBERED_PASSWORDS)
        return Grant(user, record, now + SESSION_SECONDS)

    def _current_user(self, grants: OrderedDict[bytes, Grant], key: bytes) -> str | None:
        grant = grants.get(key)
        if grant is None:
            return None
        if self._clock() >= grant.expires or self._accounts.record(grant.user) != grant.record:
            del grants[key]
            return None
        return grant.user

    def _digest(self, secret: str) -> bytes:
        return hmac.new(self._key, secret.encode(errors="surrogatepass"), hashlib.sha256).digest()


def _store(grants: OrderedDict[bytes, Grant], key: bytes, grant: Grant, limit: int) -> None:
    grants[key] = grant
    while len(grants) > limit:
        grants.popitem(last=False)


def _address_group(address: str) -> str:
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
