"""Which names this server answers to: the Host and Origin rules that keep other people's web pages out."""

import ipaddress
import re
from collections.abc import Iterable
from typing import NamedTuple

from models.errors import RequestError

LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})
WILDCARD_HOSTS = frozenset({"0.0.0.0", "::"})  # noqa: S104  (to recognise them, not to bind)
AUTHORITY = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([A-Za-z0-9._-]+))(?::(\d{1,5}))?")
DEFAULT_PORTS = {"http": 80, "https": 443}


class Authority(NamedTuple):
    """The host of an address, lower case, without brackets or last dot, and its port where one is written."""

    name: str
    port: int | None


def parse_authority(text: str) -> Authority | None:
    """Read `name`, `name:port` or `[ipv6]:port`; None for anything else."""
    match = AUTHORITY.fullmatch(text)
    if match is None:
        return None
    name = (match[1] or match[2]).lower().removesuffix(".")
    port = None if match[3] is None else int(match[3])
    return Authority(name, port) if name and (port is None or port < 65536) else None


def is_loopback(host: str) -> bool:
    """Whether binding to this host keeps the server on this machine."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host.lower() == "localhost"


class Hosts:
    """The names we answer to: loopback, the address bound to, names the owner allowed, the share link's."""

    def __init__(self, bind_host: str, allowed: Iterable[str] = ()) -> None:
        self._outside: set[Authority] = set()
        self._https_names: set[str] = set()
        self._names = set(LOOPBACK_NAMES)
        bind_name = bind_host.strip("[]").lower()
        self._names.add(bind_name)
        # A server bound to every address does not know them beforehand. A page elsewhere can make a browser
        # send any *name* here (DNS rebinding), but not the number of the address that it connected to.
        self._any_own_address = bind_name in WILDCARD_HOSTS
        for text in allowed:
            self.allow(text)

    def allow(self, text: str, https: bool = False) -> None:
        """Answer to this name, or name:port, also behind a proxy; RequestError when it is not one.

        `https`: the name is only ever reached by https, even where the proxy does not say so.
        """
        authority = parse_authority(text)
        if authority is None:
            raise RequestError(
                f"--allow-host {text!r} is not a host name: give the name as it stands in the address bar, "
                "without https:// and without a path, for instance studio.example.org."
            )
        self._names.add(authority.name)
        self._outside.add(authority)
        if https:
            self._https_names.add(authority.name)

    def is_https(self, host: str) -> bool:
        """Whether a Host header names something that is only reached by https (a share link)."""
        authority = parse_authority(host)
        return authority is not None and authority.name in self._https_names

    def answers_to(self, host: str, server_address: str | None = None) -> bool:
        """Whether a Host header is ours; server_address is the local end of the connection."""
        authority = parse_authority(host)
        if authority is None:
            return False
        if authority.name in self._names:
            return True
        if not self._any_own_address or server_address is None:
            return False
        return _same_address(authority.name, server_address)

    def is_our_origin(self, origin: str, host: str) -> bool:
        """Whether an Origin header is the very site that the (already accepted) Host header names.

        A proxy may rewrite Host; then the origin must be one of the names allowed for outside.
        """
        scheme, separator, rest = origin.partition("://")
        theirs, ours = parse_authority(rest), parse_authority(host)
        if not separator or scheme not in DEFAULT_PORTS or theirs is None or ours is None:
            return False
        default = DEFAULT_PORTS[scheme]
        if (theirs.name, theirs.port or default) == (ours.name, ours.port or default):
            return True
        if theirs.port in (None, default):
            return bool({Authority(theirs.name, None), Authority(theirs.name, default)} & self._outside)
        return theirs in self._outside


def _same_address(name: str, server_address: str) -> bool:
    try:
        return _plain(name) == _plain(server_address)
    except ValueError:
        return False


def _plain(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    address = ipaddress.ip_address(text.partition("%")[0])
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address
