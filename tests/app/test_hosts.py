"""Which Host and Origin headers are ours."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.hosts import Hosts, is_loopback, parse_authority
from models.errors import RequestError


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "localhost", "LOCALHOST", "::1", "[::1]"])
def test_loopback_stays_on_this_machine(host: str) -> None:
    assert is_loopback(host)


@pytest.mark.parametrize(
    "host", ["0.0.0.0", "::", "192.168.1.5", "localhost.example.org", "example.org", "1270.0.0.1", ""]
)
def test_every_other_address_counts_as_open_to_others(host: str) -> None:
    assert not is_loopback(host)


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "localhost:7860", "LocalHost.:7860", "[::1]:7860", "127.0.0.1:1"]
)
def test_loopback_names_are_always_served(host: str) -> None:
    assert Hosts("127.0.0.1").answers_to(host, "127.0.0.1")


@pytest.mark.parametrize(
    "host",
    [
        "evil.example", "127.0.0.1.evil.example", "localhost.evil.example", "localhost@evil.example",
        "192.168.1.5", "", " ", "localhost:99999", "localhost:x", "localhost/", "127.0.0.1, evil.example",
        "[::1", "0x7f000001", "localhost:", "127.1", "::1",
    ],
)  # fmt: skip
def test_foreign_and_malformed_names_are_not(host: str) -> None:
    assert not Hosts("127.0.0.1").answers_to(host, "127.0.0.1")


def test_a_server_on_every_address_answers_to_the_address_called_but_to_no_name() -> None:
    hosts = Hosts("0.0.0.0")
    assert hosts.answers_to("192.168.1.5:7860", "192.168.1.5")
    assert hosts.answers_to("192.168.1.5:7860", "::ffff:192.168.1.5")
    assert not hosts.answers_to("192.168.1.6:7860", "192.168.1.5")
    assert not hosts.answers_to("evil.example:7860", "192.168.1.5")
    assert not hosts.answers_to("192.168.1.5", None)


def test_allowed_names_are_served() -> None:
    hosts = Hosts("0.0.0.0", ["Studio.example.org"])
    assert hosts.answers_to("studio.example.org:7860")
    assert not hosts.answers_to("example.org")
    assert not hosts.answers_to("a.studio.example.org")


@pytest.mark.parametrize(
    "name", ["", "*", "https://studio.example", "studio.example/", "a b", "a,b", "a:b:c"]
)
def test_an_allowed_name_has_to_be_a_name(name: str) -> None:
    with pytest.raises(RequestError, match="--allow-host"):
        Hosts("127.0.0.1", [name])


@pytest.mark.parametrize(
    ("origin", "host"),
    [
        ("http://127.0.0.1:7860", "127.0.0.1:7860"),
        ("http://localhost:8000", "localhost:8000"),  # through an ssh tunnel
        ("http://[::1]:7860", "[::1]:7860"),
        ("https://studio.example.org", "studio.example.org"),
        ("https://studio.example.org", "studio.example.org:443"),
        ("https://studio.example.org", "127.0.0.1:7860"),  # behind a proxy that rewrites Host
        ("https://studio.example.org:443", "127.0.0.1:7860"),
        ("https://other.example.org:8443", "127.0.0.1:7860"),
    ],
)
def test_the_page_itself_is_our_origin(origin: str, host: str) -> None:
    assert Hosts("127.0.0.1", ["studio.example.org", "other.example.org:8443"]).is_our_origin(origin, host)


@pytest.mark.parametrize(
    ("origin", "host"),
    [
        ("null", "127.0.0.1:7860"),
        ("", "127.0.0.1:7860"),
        ("https://evil.example", "127.0.0.1:7860"),
        ("http://127.0.0.1:9999", "127.0.0.1:7860"),  # another program on this machine
        ("http://localhost:7860", "127.0.0.1:7860"),
        ("file://127.0.0.1:7860", "127.0.0.1:7860"),
        ("http://127.0.0.1:7860.evil.example", "127.0.0.1:7860"),
        ("http://127.0.0.1:7860@evil.example", "127.0.0.1:7860"),
        ("https://studio.example.org:8443", "127.0.0.1:7860"),
        ("https://other.example.org", "127.0.0.1:7860"),
        ("127.0.0.1:7860", "127.0.0.1:7860"),
    ],
)
def test_every_other_origin_is_foreign(origin: str, host: str) -> None:
    assert not Hosts("127.0.0.1", ["studio.example.org", "other.example.org:8443"]).is_our_origin(
        origin, host
    )


@given(st.text())
def test_any_header_gets_an_answer(text: str) -> None:
    hosts = Hosts("127.0.0.1")
    served = hosts.answers_to(text, "127.0.0.1")
    authority = parse_authority(text)
    assert served == (authority is not None and authority.name in ("localhost", "127.0.0.1", "::1"))
    assert not hosts.is_our_origin(text, "127.0.0.1:7860") or text.endswith("://127.0.0.1:7860")
