"""`[redis] host` and `[postgres] host`: one server or a comma list."""

from __future__ import annotations

import pytest

from actors.core.addresses import Address
from actors.core.host_list import host_list


@pytest.mark.parametrize(
    ("text", "servers"),
    [
        ("a", [("a", 7)]),
        ("a:1", [("a", 1)]),
        ("10.0.0.1:65535, b.example.org ,c:2", [("10.0.0.1", 65535), ("b.example.org", 7), ("c", 2)]),
        ("::1", [("::1", 7)]),
        ("[::1]:9,[fe80::1]:8", [("::1", 9), ("fe80::1", 8)]),
        ("a:1,a:2,a", [("a", 1), ("a", 2), ("a", 7)]),
    ],
)
def test_what_is_taken(text: str, servers: list[tuple[str, int]]) -> None:
    assert host_list(text, 7) == tuple(Address(*each) for each in servers)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("", "^not a host; allowed is a host name"),
        ("a b", "^not a host"),
        ("a:", "^the port is out of range"),
        ("a:0", "^the port is out of range"),
        ("a:65536", "^the port is out of range"),
        ("a:\u0661", "^the port is out of range"),
        ("a:-1", "^the port is out of range"),
        ("a:" + "9" * 5000, "^the port is out of range"),
        ("::1:6379:x", "^not a host"),
        ("[a]:1", "^not a host"),
        ("[::1]", "^not a host"),
        ("redis://a:1", "^not a host"),
        ("a,,b", "^entry 2, '', is wrong: not a host"),
        ("a,b:x", "^entry 2, 'b:x', is wrong: the port"),
        ("a,b,a:7", "^entry 3, 'a:7', is wrong: stands twice; allowed is each server once"),
    ],
)
def test_what_is_refused(text: str, fault: str) -> None:
    with pytest.raises(ValueError, match=fault):
        host_list(text, 7)
