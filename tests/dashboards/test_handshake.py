"""handshake.py's rules: who gets in, who does not, and who is only told why. On sockets: tests/contract/websocket."""

from __future__ import annotations

import time
from typing import Any

import attrs
import pytest

from actors.dashboards.handshake import Admitted, admit, last_answer, understand
from actors.http.access import Access
from actors.http.problem import Problem
from actors.settings.load import WsSettings
from tests.kit.tokens import SECRET, token
from tests.kit.websocket import ACCEPT, HEAD_END, request

LISTED = "https://a.example"
ORDINARY = 200  # for the application behind


def judged(sent: bytes, *, secure: bool = False, **ws: Any) -> Admitted | Problem | None:
    """What becomes of a request; `ws` are settings."""
    settings = attrs.evolve(WsSettings(), **ws)
    access = Access(SECRET.encode(), settings.auth == "token", settings.cors_origin)
    try:
        return admit(understand(sent.removesuffix(HEAD_END)), settings, access, secure, time.time())
    except Problem as problem:
        return problem


def status(sent: bytes, **ws: Any) -> int:
    match judged(sent, **ws):
        case Admitted():
            return 101
        case Problem(status=number):
            return number
    return ORDINARY


def test_who_is_let_in_is_answered_as_in_the_rfc() -> None:
    admitted = judged(request(Sec_WebSocket_Protocol="chat, tracking.v1"), compression=False)
    assert isinstance(admitted, Admitted)
    head = admitted.answer().decode()
    assert head.startswith("HTTP/1.1 101 ")
    assert f"\r\nSec-WebSocket-Accept: {ACCEPT}\r\n" in head
    assert "\r\nSec-WebSocket-Protocol: tracking.v1\r\n" in head
    plain = judged(request(Sec_WebSocket_Protocol="chat"))
    assert isinstance(plain, Admitted)
    assert "Sec-WebSocket-Protocol" not in plain.answer().decode()


def test_a_token_in_each_of_three_places_and_the_first_counts() -> None:
    good = token()
    assert status(request(Authorization=f"Bearer {good}")) == 101
    assert status(request(f"/tracking?token={good}", Authorization=None)) == 101
    assert status(request(Authorization=None, Sec_WebSocket_Protocol=f"tracking.v1, bearer.{good}")) == 101
    assert status(request(f"/tracking?token={good}", Authorization="Bearer bad")) == 401
    assert status(request(Authorization=None)) == 401


def test_a_token_among_the_subprotocols_needs_one_that_can_be_chosen() -> None:
    assert status(request(Sec_WebSocket_Protocol=f"bearer.{token()}")) == 400


def test_a_refused_token_is_said_why_and_not_repeated() -> None:
    """No browser tells its page."""
    bad = token(aud="https://maps.example")
    refused = judged(request(f"/tracking?token={bad}", Authorization=None))
    assert isinstance(refused, Problem)
    answer = last_answer(refused).decode()
    assert "\r\nWWW-Authenticate: Bearer\r\n" in answer
    assert "aud" in answer
    assert bad not in answer


@pytest.mark.parametrize(
    ("cors_origin", "origin", "code"),
    [
        (("*",), "https://anything.example", 101),
        (("*",), "null", 101),
        ((LISTED,), None, 101),
        ((LISTED,), LISTED, 101),
        ((LISTED,), "http://tracking.example", 101),  # our own
        ((LISTED,), "https://b.example", 403),
        ((LISTED,), "null", 403),
    ],
)
def test_origins(cors_origin: tuple[str, ...], origin: str | None, code: int) -> None:
    assert status(request(Origin=origin), cors_origin=cors_origin) == code


def test_over_tls_our_own_origin_is_not_plain() -> None:
    assert status(request(Origin="https://tracking.example"), cors_origin=(LISTED,), secure=True) == 101
    assert status(request(Origin="http://tracking.example"), cors_origin=(LISTED,), secure=True) == 403


@pytest.mark.parametrize(
    ("host", "origin", "code"),
    [
        ("127.0.0.1:3000", None, 101),
        ("localhost:3000", "http://localhost:3000", 101),
        ("tracking.example", None, 403),
        ("127.0.0.1:3000", "https://evil.example", 403),
    ],
)
def test_without_tokens_only_this_machine(host: str, origin: str | None, code: int) -> None:
    assert status(request(Authorization=None, Host=host, Origin=origin), auth="off") == code


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        (b"GET /healthz HTTP/1.1\r\nHost: a", ORDINARY),
        (b"GET /healthz HTTP/1.0", ORDINARY),
        (b"GET /healthz HTTP/1.1", 400),
        (b"GET /healthz HTTP/1.1\r\nHost: a\r\nHost: a", 400),
        (b"GET /healthz HTTP/1.1\r\nHost: a\r\nOrigin: b\r\nOrigin: c", 400),
        (b"POST /healthz HTTP/1.1\r\nHost: a\r\nContent-Length: -1", 400),
        (b"GET /tracking HTTP/1.1\r\nHost: a", 426),
        (b"HEAD /tracking HTTP/1.1\r\nHost: a", 426),
        (b"POST /tracking HTTP/1.1\r\nHost: a\r\nContent-Length: 0", 405),
        (b"nonsense", 400),
        (request("/other"), 404),
        (request(Sec_WebSocket_Version="8"), 426),
        (request(Sec_WebSocket_Key=None), 400),
        (request("/tracking", "Origin: b", "Origin: c"), 400),
    ],
)
def test_what_is_no_websocket(sent: bytes, code: int) -> None:
    assert status(sent) == code


def test_without_tokens_nobody_elsewhere_learns_where_the_websocket_is() -> None:
    assert status(b"GET /tracking HTTP/1.1\r\nHost: elsewhere.example", auth="off") == 403
    assert status(b"GET /tracking HTTP/1.1\r\nHost: localhost", auth="off") == 426


@pytest.mark.parametrize(
    ("ws", "origin", "code"),
    [
        ({"cors_origin": (LISTED,)}, "https://b.example", 403),
        ({"cors_origin": (LISTED,)}, LISTED, 405),
        ({"auth": "off"}, LISTED, 403),
    ],
)
def test_plain_http_learns_what_a_websocket_would_be_refused_for(ws: dict[str, Any], origin: str, code: int) -> None:
    """A browser tells its page nothing about a handshake that was refused; a POST carries the page's origin."""
    assert status(request(line="POST /tracking HTTP/1.1", Upgrade=None, Origin=origin), **ws) == code
