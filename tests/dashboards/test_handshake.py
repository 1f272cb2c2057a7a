"""Who gets in and who does not. What is no handshake at all: test_websocket_hostile.py."""

from __future__ import annotations

import json
import time

import pytest
import structlog.testing
import trio

from tests.kit.client import WITHIN_S
from tests.kit.dashboards import Site, running_site, until, wall_ms, ws_settings
from tests.kit.tokens import token
from tests.kit.websocket import request

pytestmark = pytest.mark.live


async def exchange(site: Site, sent: bytes) -> tuple[int, dict[str, str], bytes]:
    """Status, header fields in lower case, and body of the answer."""
    async with await site.raw() as stream:
        await stream.send_all(sent)
        return await answer_on(stream)


async def answer_on(stream: trio.SocketStream) -> tuple[int, dict[str, str], bytes]:
    received = b""
    with trio.fail_after(WITHIN_S):
        while b"\r\n\r\n" not in received:
            data = await stream.receive_some(65536)
            assert data, f"closed after {received!r}"
            received += data
        head, _, body = received.partition(b"\r\n\r\n")
        status_line, *lines = head.decode("latin-1").split("\r\n")
        fields = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
        if "content-length" in fields:
            while data := await stream.receive_some(65536):
                body += data
            assert len(body) == int(fields["content-length"])
    return int(status_line.split(" ")[1]), fields, body


async def status(site: Site, sent: bytes) -> int:
    code, fields, body = await exchange(site, sent)
    if code != 101:
        assert fields["connection"] == "close"
        assert fields["content-type"] == "application/json"
        error = json.loads(body)["error"]
        assert set(error) == {"code", "message"}
    return code


async def test_the_answer_of_rfc_6455() -> None:
    async with running_site() as site:
        code, fields, body = await exchange(site, request())
        assert code == 101
        assert fields["sec-websocket-accept"] == "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
        assert "sec-websocket-protocol" not in fields
        assert body == b""


async def test_a_token_in_each_of_three_places() -> None:
    ticket = token()
    async with running_site() as site:
        assert await status(site, request(Authorization=f"Bearer {ticket}")) == 101
        assert await status(site, request(f"/tracking?token={ticket}", Authorization=None)) == 101
        code, fields, _ = await exchange(
            site, request(Authorization=None, Sec_WebSocket_Protocol=f"tracking.v1, bearer.{ticket}")
        )
        assert (code, fields["sec-websocket-protocol"]) == (101, "tracking.v1")


async def test_the_first_token_found_counts() -> None:
    good = token()
    async with running_site() as site:
        assert await status(site, request(f"/tracking?token={good}", Authorization="Bearer bad")) == 401
        assert await status(site, request(f"/tracking?token={good}", Authorization=None)) == 101


async def test_subprotocols() -> None:
    async with running_site() as site:
        ticket = token()
        assert await status(site, request(Authorization=None, Sec_WebSocket_Protocol=f"bearer.{ticket}")) == 400
        code, fields, _ = await exchange(site, request(Sec_WebSocket_Protocol="tracking.v1"))
        assert (code, fields["sec-websocket-protocol"]) == (101, "tracking.v1")
        code, fields, _ = await exchange(site, request(Sec_WebSocket_Protocol="chat"))
        assert code == 101
        assert "sec-websocket-protocol" not in fields


@pytest.mark.parametrize(
    "ticket",
    [
        "",
        "x",
        "a.b.c",
        token(ttl_s=-1),
        token(secret="another secret of at least 32 bytes!"),
        token(exp=None),
        token(exp="tomorrow"),
        token() + "x",
        token(races="R1"),
        # alg none
        "eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0.eyJleHAiOjk5OTk5OTk5OTl9.",
    ],
)
async def test_bad_tokens(ticket: str) -> None:
    async with running_site() as site:
        code, fields, _ = await exchange(site, request(Authorization=f"Bearer {ticket}"))
        assert (code, fields["www-authenticate"]) == (401, "Bearer")
        assert site.dropped("unauthorized") == 1


async def test_why_a_token_is_refused_is_in_the_answer_and_once_a_second_in_the_log() -> None:
    """No browser tells its page."""
    ticket = token(aud="https://maps.example")
    with structlog.testing.capture_logs() as logs:
        async with running_site() as site:
            for _ in range(3):
                _, _, body = await exchange(site, request(f"/tracking?token={ticket}", Authorization=None))
                assert b"aud" in body
                assert ticket.encode() not in body
            assert await status(site, request(Origin="https://b.example", Upgrade="websocketx")) == 426
    refused = [line for line in logs if line["event"] == "connection refused"]
    assert 1 <= len(refused) <= 2
    assert (refused[0]["status"], refused[0]["log_level"]) == (401, "info")
    assert "aud" in refused[0]["reason"]
    assert ticket not in str(logs)


async def test_no_token() -> None:
    async with running_site() as site:
        assert await status(site, request(Authorization=None)) == 401


@pytest.mark.parametrize(
    ("cors_origin", "origin", "code"),
    [
        (("*",), "https://anything.example", 101),
        (("*",), "null", 101),
        (("https://a.example",), None, 101),
        (("https://a.example",), "https://a.example", 101),
        (("https://a.example",), "http://tracking.example", 101),  # our own
        (("https://a.example",), "https://b.example", 403),
        (("https://a.example",), "https://a.example.b.example", 403),
        (("https://a.example",), "null", 403),
    ],
)
async def test_origins(cors_origin: tuple[str, ...], origin: str | None, code: int) -> None:
    async with running_site(ws_settings(cors_origin=cors_origin)) as site:
        assert await status(site, request(Origin=origin)) == code


@pytest.mark.parametrize(
    ("host", "origin", "code"),
    [
        ("127.0.0.1:3000", None, 101),
        ("localhost:3000", "http://localhost:3000", 101),
        ("tracking.example", None, 403),
        ("127.0.0.1:3000", "https://evil.example", 403),
    ],
)
async def test_without_tokens_only_this_machine(host: str, origin: str | None, code: int) -> None:
    async with running_site(ws_settings(auth="off")) as site:
        assert await status(site, request(Authorization=None, Host=host, Origin=origin)) == code


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        (b"GET /healthz HTTP/1.1\r\n\r\n", 400),
        (b"GET /healthz HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", 400),
        (b"POST /healthz HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n", 400),
        (b"GET /tracking HTTP/1.1\r\nHost: a\r\n\r\n", 426),
        (b"POST /tracking HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n", 405),
    ],
)
async def test_http_that_gets_no_further_is_told_why(sent: bytes, code: int) -> None:
    async with running_site() as site:
        assert await status(site, sent) == code


async def test_without_tokens_nobody_elsewhere_learns_where_the_websocket_is() -> None:
    async with running_site(ws_settings(auth="off")) as site:
        assert await status(site, b"GET /tracking HTTP/1.1\r\nHost: elsewhere.example\r\n\r\n") == 403
        assert await status(site, b"GET /tracking HTTP/1.1\r\nHost: localhost\r\n\r\n") == 426


async def test_plain_http_learns_what_a_websocket_would_be_refused_for() -> None:
    """A browser tells its page nothing about a handshake that was refused; a POST carries the page's origin."""
    for settings, origin, code in (
        (ws_settings(cors_origin=("https://a.example",)), "https://b.example", 403),
        (ws_settings(cors_origin=("https://a.example",)), "https://a.example", 405),
        (ws_settings(auth="off"), "https://a.example", 403),
    ):
        async with running_site(settings) as site:
            assert await status(site, request(line="POST /tracking HTTP/1.1", Upgrade=None, Origin=origin)) == code
    async with running_site(ws_settings(max_connections=1)) as site, site.dashboard():
        assert await status(site, request(Upgrade=None)) == 503


async def test_too_many_dashboards() -> None:
    async with running_site(ws_settings(max_connections=2)) as site:
        async with site.dashboard(), site.dashboard():
            assert await status(site, request()) == 503
            assert site.dropped("unavailable") == 1
        await until(lambda: not site.listener.dashboards)
        assert await status(site, request()) == 101


async def test_too_many_handshakes_and_one_that_takes_too_long() -> None:
    async with running_site(ws_settings(max_handshakes=1, handshake_timeout_s=2)) as site:
        async with await site.raw() as idle:
            await idle.send_all(b"GET /tr")
            await until(lambda: len(site.listener.waiting) == 1)
            assert await status(site, request()) == 503
            assert (await exchange(site, b"GET /healthz HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"))[0] == 200
            assert (await answer_on(idle))[0] == 408
        assert await status(site, request()) == 101


async def test_one_byte_at_a_time() -> None:
    async with running_site() as site, await site.raw() as stream:
        for byte in request():
            await stream.send_all(bytes([byte]))
        assert (await answer_on(stream))[0] == 101


async def test_a_request_sent_together_with_the_upgrade_is_answered() -> None:
    payload = b'{"event": "list_races", "id": 1}'
    frame = bytes([0x81, 0x80 | len(payload)]) + bytes(4) + payload
    async with running_site() as site, await site.raw() as stream:
        await stream.send_all(request() + frame)
        received = b""
        with trio.fail_after(WITHIN_S):
            while b'"races":[]' not in received:
                received += await stream.receive_some(4096)


async def test_expired_means_expired() -> None:
    async with running_site() as site:
        assert await status(site, request(Authorization=f"Bearer {token(exp=int(time.time()))}")) == 401


async def test_a_token_by_a_clock_that_is_set() -> None:
    """An hour forward it has expired for who comes and for who is there; after it is set back it is good again."""
    step_ms = 0
    ticket = token(ttl_s=1800)
    asked = request(Authorization=f"Bearer {ticket}")
    async with running_site(ws_settings(heartbeat_s=1), clock=lambda: wall_ms() + step_ms) as site:
        async with site.dashboard(access=ticket) as dashboard:
            step_ms = -3_600_000
            assert await status(site, asked) == 101
            step_ms = 3_600_000
            assert await dashboard.closed() == 4401
        assert await status(site, asked) == 401
        step_ms = 0
        assert await status(site, asked) == 101
