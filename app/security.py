"""Who may come in: the password file, and the words that add a person to it."""

import base64
import getpass
import hashlib
import hmac
import os
import re
import secrets
import sys
import tempfile
import unicodedata
from dataclasses import dataclass
from pathlib import Path

from models.errors import RequestError

MIN_PASSWORD_CHARACTERS = 8
MAX_PASSWORD_BYTES = 1024
# 2**15 * 8 * 128 bytes = 32 MiB and about a quarter of a second a try: a row of OWASP's cheat sheet.
SCRYPT_LOG2_COST, SCRYPT_BLOCK_SIZE, SCRYPT_PARALLEL = 15, 8, 3
# What a line of the file may ask for; more would let the file itself exhaust the memory.
MAX_COST = (20, 16, 16)
SALT_BYTES = 16
HASH_BYTES = 32

USER_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}")
RECORD = re.compile(
    r"scrypt\$ln=(\d{1,2}),r=(\d{1,2}),p=(\d{1,2})\$([A-Za-z0-9_-]{16,128})\$([A-Za-z0-9_-]{43})"
)
HEADER = "# Latent Studio passwords: one NAME:scrypt$... a line, written by `python launch.py auth add`.\n"


@dataclass(frozen=True, slots=True)
class PasswordRecord:
    """One person's scrypt hash, with the cost it was made at and its own salt."""

    log2_cost: int
    block_size: int
    parallel: int
    salt: bytes
    digest: bytes

    @classmethod
    def from_password(cls, password: str) -> "PasswordRecord":
        """Hash a password with a fresh salt."""
        salt = secrets.token_bytes(SALT_BYTES)
        blank = cls(SCRYPT_LOG2_COST, SCRYPT_BLOCK_SIZE, SCRYPT_PARALLEL, salt, b"")
        return cls(*blank.cost, salt, blank.hash(password))

    @classmethod
    def from_text(cls, text: str) -> "PasswordRecord":
        """Read what `to_text` wrote; ValueError when it is anything else."""
        match = RECORD.fullmatch(text)
        if match is None:
            raise ValueError("not a scrypt record")
        log2_cost, block_size, parallel = (int(number) for number in match.groups()[:3])
        record = cls(log2_cost, block_size, parallel, _bytes(match[4]), _bytes(match[5]))
        if not all(1 <= value <= limit for value, limit in zip(record.cost, MAX_COST, strict=True)):
            raise ValueError("a scrypt cost out of bounds")
        return record

    @property
    def cost(self) -> tuple[int, int, int]:
        """log2 of the cost, block size, parallel lanes (RFC 7914's N, r, p)."""
        return self.log2_cost, self.block_size, self.parallel

    def to_text(self) -> str:
        """The form that stands in the file."""
        cost = f"ln={self.log2_cost},r={self.block_size},p={self.parallel}"
        return f"scrypt${cost}${_text(self.salt)}${_text(self.digest)}"

    def hash(self, password: str) -> bytes:
        """scrypt of the password, normalised so that two keyboards' ways to type an accent agree."""
        return hashlib.scrypt(
            unicodedata.normalize("NFC", password).encode(errors="surrogatepass"),
            salt=self.salt,
            n=1 << self.log2_cost,
            r=self.block_size,
            p=self.parallel,
            maxmem=(128 * self.block_size << self.log2_cost) + (1 << 24),
            dklen=HASH_BYTES,
        )

    def matches(self, password: str) -> bool:
        """Whether this is the password; the time it takes does not tell how near it was."""
        return hmac.compare_digest(self.hash(password), self.digest)


class Accounts:
    """The people in a password file, read again whenever the file changes.

    A file that vanishes or turns unreadable while the server runs holds nobody: the doors shut.
    """

    def __init__(self, auth_file: Path) -> None:
        self.auth_file = auth_file
        self._records = read_password_file(auth_file)
        self._stamp = self._file_stamp()
        # A stranger's name costs as much time as a known one.
        self._nobody = PasswordRecord.from_password(secrets.token_hex())

    def record(self, user: str) -> PasswordRecord | None:
        """The current record of a person, None when there is none (any more)."""
        stamp = self._file_stamp()
        if stamp != self._stamp:
            self._stamp = stamp
            try:
                self._records = read_password_file(self.auth_file)
            except RequestError:
                self._records = {}
        return self._records.get(user)

    def verify(self, user: str, password: str) -> PasswordRecord | None:
        """The person's record when the password is theirs; slow on purpose, so not for the event loop."""
        record = self.record(user)
        if len(password.encode(errors="surrogatepass")) > MAX_PASSWORD_BYTES:
            return None
        right = (record or self._nobody).matches(password)
        return record if right else None

    def _file_stamp(self) -> tuple[int, int, int] | None:
        try:
            status = self.auth_file.stat()
        except OSError:
            return None
        return status.st_mtime_ns, status.st_size, status.st_ino


def read_password_file(auth_file: Path) -> dict[str, PasswordRecord]:
    """Everyone in a password file; RequestError says which line is wrong, never what stood there."""
    try:
        text = auth_file.read_text(encoding="utf-8")
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError) as error:
        raise RequestError(f"The password file {auth_file} cannot be read: {_reason(error)}.") from None
    records: dict[str, PasswordRecord] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip() or line.startswith("#"):
            continue
        user, _, rest = line.strip().partition(":")
        try:
            if USER_NAME.fullmatch(user) is None or user in records:
                raise ValueError("a name that is not allowed, or stands there twice")
            records[user] = PasswordRecord.from_text(rest)
        except ValueError as error:
            raise RequestError(
                f"Line {number} of the password file {auth_file} is damaged ({error}): delete that line and "
                "add the person again with `python launch.py auth add`."
            ) from None
    return records


def check_user_name(user: str) -> None:
    """RequestError unless the name can stand in the file and in HTTP Basic."""
    if USER_NAME.fullmatch(user) is None:
        raise RequestError(
            f"The user name {user!r} is not allowed: use 1 to 64 letters, digits, dots, dashes, underscores "
            "or @, beginning with a letter or a digit."
        )


def check_password(user: str, password: str) -> None:
    """RequestError unless the password is worth storing."""
    if len(password) < MIN_PASSWORD_CHARACTERS:
        raise RequestError(
            f"The password has {len(password)} characters: use at least {MIN_PASSWORD_CHARACTERS}, "
            "a few words are easiest to remember."
        )
    if len(password.encode(errors="surrogatepass")) > MAX_PASSWORD_BYTES:
        raise RequestError(f"The password is longer than {MAX_PASSWORD_BYTES} bytes: use a shorter one.")
    if any(unicodedata.category(character) in ("Cc", "Cs") for character in password):
        raise RequestError("The password holds a control character: use letters, digits and signs.")
    if password.casefold() == user.casefold():
        raise RequestError("The password is the user name: use another one.")


def set_password(auth_file: Path, user: str, password: str) -> bool:
    """Store a person's password, and say whether they were new; the file is replaced whole, mode 0600."""
    check_user_name(user)
    check_password(user, password)
    auth_file = auth_file.expanduser().resolve()
    if not auth_file.parent.is_dir():
        raise RequestError(f"There is no folder {auth_file.parent}: make it, or name another --auth-file.")
    records = read_password_file(auth_file)
    is_new = user not in records
    records[user] = PasswordRecord.from_password(password)
    text = HEADER + "".join(f"{name}:{record.to_text()}\n" for name, record in sorted(records.items()))
    try:
        # mkstemp makes the file with mode 0600, so no moment shows the hashes to others.
        handle, temporary = tempfile.mkstemp(prefix=f".{auth_file.name}.", dir=auth_file.parent)
        try:
            with os.fdopen(handle, "w", encoding="utf-8", newline="\n") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, auth_file)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise RequestError(f"The password file {auth_file} cannot be written: {_reason(error)}.") from None
    return is_new


def add_user(user: str, auth_file: Path) -> None:
    """Ask for a password twice and store it: on the terminal unseen, else two lines of standard input."""
    check_user_name(user)  # before anyone types a password in vain
    read_password_file(auth_file)
    if sys.stdin.isatty():
        password = getpass.getpass(f"Password for {user}: ")
        check_password(user, password)
        again = getpass.getpass("The same again: ")
    else:
        password, again = (sys.stdin.readline().rstrip("\r\n") for _ in range(2))
        check_password(user, password)
    if password != again:
        raise RequestError(
            "The two passwords differ and nothing was stored: give the same one twice, each on its own line."
        )
    is_new = set_password(auth_file, user, password)
    print(f"{'Added' if is_new else 'Changed the password of'} {user} in {auth_file}.")


def _text(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def _bytes(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def _reason(error: Exception) -> str:
    return error.strerror or str(error) if isinstance(error, OSError) else "it is not UTF-8 text"
