"""http/head.py: request heads, strictly."""

from __future__ import annotations

from http import HTTPStatus

import h11
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actors.http.head import BadHead, OtherVersion, parse_head, response_head, upgrade_of

KEY = "dGhlIHNhbXBsZSBub25jZQ=="
GOOD = (
    "GET /tracking?a=1&a=2&b=%20x#f HTTP/1.1",
    "Host: tracking.example",
    "UPGRADE:\twebsocket \t",
    "Connection: keep-alive, Upgrade",
    "X-Empty:",
    f"Sec-WebSocket-Key: {KEY}",
    "Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Protocol: tracking.v1, bearer.x",
    "Sec-WebSocket-Protocol: , other",
)


def head(*lines: str) -> bytes:
    return "\r\n".join(lines).encode("latin-1")


def changed(start: str, *instead: str) -> bytes:
    """GOOD with the lines that begin with `start` replaced."""
    return head(*(line for line in GOOD if not line.startswith(start)), *instead)


def test_a_good_upgrade() -> None:
    parsed = parse_head(head(*GOOD))
    assert (parsed.method, parsed.version, parsed.path) == ("GET", "1.1", "/tracking")
    assert parsed.query == {"a": "1", "b": " x"}
    assert parsed.only("x-empty") == ""
    assert parsed.only("missing") is None
    assert parsed.wants_websocket
    upgrade = upgrade_of(parsed)
    assert upgrade.subprotocols == ("tracking.v1", "bearer.x", "other")
    assert upgrade.selected == "tracking.v1"
    assert upgrade.accept == "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="  # the example of RFC 6455 section 1.3


def test_the_head_of_a_response_is_read_by_a_client() -> None:
    client = h11.Connection(h11.CLIENT)
    client.send(h11.Request(method="GET", target="/", headers=[("Host", "a")]))
    client.receive_data(response_head(HTTPStatus.NOT_FOUND, {"Content-Length": "0", "X-Empty": ""}))
    response = client.next_event()
    assert isinstance(response, h11.Response)
    assert (response.status_code, response.reason, dict(response.headers)) == (
        404,
        b"Not Found",
        {b"content-length": b"0", b"x-empty": b""},
    )


@pytest.mark.parametrize(
    ("target", "path"),
    [
        ("/tr%61cking", "/tracking"),
        ("http://a.example/tracking?x", "/tracking"),
        ("/tracking%ff", ""),
        ("http://[broken/tracking", ""),
        ("*", "*"),
        ("a.example:443", "443"),
    ],
)
def test_paths(target: str, path: str) -> None:
    assert parse_head(head(f"GET {target} HTTP/1.1")).path == path


def test_values_outside_of_ascii_are_latin_1() -> None:
    assert parse_head(head("GET / HTTP/1.0", "X: \xe9\xff")).values("x") == ["\xe9\xff"]


@pytest.mark.parametrize(
    "sent",
    [
        head(""),
        head("GET"),
        head("GET  / HTTP/1.1"),
        head("GET / HTTP/2.0"),
        head("GET /\xe9 HTTP/1.1"),
        head("G\xe9T / HTTP/1.1"),
        head("GET / HTTP/1.1", "no colon"),
        head("GET / HTTP/1.1", "blank : x"),
        head("GET / HTTP/1.1", " folded: x"),
        head("GET / HTTP/1.1", "X: \x00"),
        head("GET / HTTP/1.1", "X: a\nY: b"),
        head("GET / HTTP/1.1", "H\xe9: a"),
        head("GET / HTTP/1.1", ": a"),
    ],
)
def test_malformed_heads(sent: bytes) -> None:
    with pytest.raises(BadHead):
        parse_head(sent)


@pytest.mark.parametrize(
    "sent",
    [
        changed("GET", *()).replace(b"Host", b"POST /tracking HTTP/1.1\r\nHost", 1),
        changed("GET", *()).replace(b"Host", b"GET /tracking HTTP/1.0\r\nHost", 1),
        changed("Host"),
        changed("Host", "Host:"),
        changed("Host", "Host: a", "Host: b"),
        changed("Connection"),
        changed("Connection", "Connection: upgraded"),
        changed("X-Empty", "Content-Length: 1"),
        changed("X-Empty", "Transfer-Encoding: chunked"),
        changed("Sec-WebSocket-Key"),
        changed("Sec-WebSocket-Key", f"Sec-WebSocket-Key: {KEY}", f"Sec-WebSocket-Key: {KEY}"),
        changed("Sec-WebSocket-Key", "Sec-WebSocket-Key: c2hvcnQ="),
        changed("Sec-WebSocket-Key", "Sec-WebSocket-Key: !!!"),
        changed("Sec-WebSocket-Key", "Sec-WebSocket-Key: \xe9"),
        changed("Sec-WebSocket-Protocol", "Sec-WebSocket-Protocol: a, a"),
        changed("Sec-WebSocket-Protocol", "Sec-WebSocket-Protocol: a b"),
        changed("Sec-WebSocket-Version", "Sec-WebSocket-Version: 13", "Sec-WebSocket-Version: 13"),
    ],
)
def test_upgrades_that_are_none(sent: bytes) -> None:
    with pytest.raises(BadHead) as refused:
        upgrade_of(parse_head(sent))
    assert not isinstance(refused.value, OtherVersion)


def test_a_length_of_zero_is_no_body() -> None:
    assert upgrade_of(parse_head(changed("X-Empty", "Content-Length: 0"))).key == KEY


@pytest.mark.parametrize("version", [(), ("Sec-WebSocket-Version: 8",)])
def test_other_versions(version: tuple[str, ...]) -> None:
    with pytest.raises(OtherVersion):
        upgrade_of(parse_head(changed("Sec-WebSocket-Version", *version)))


@settings(deadline=None)  # machines are busy
@given(st.binary(max_size=300) | st.text(alphabet="GET /:\r\nH1.?#%[]@", max_size=80).map(str.encode))
def test_whatever_comes_is_parsed_or_a_bad_head(sent: bytes) -> None:
    try:
        parsed = parse_head(sent)
    except BadHead:
        return
    assert isinstance(parsed.path, str)
    assert isinstance(parsed.query, dict)
    assert parsed.wants_websocket in (True, False)
