"""Who gets in and who does not, and that nothing which a client sends ends the listener (DESIGN rule 11)."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
import trio

from tests.dashboards import Site, make_token, reset_on_close, running_site, until, ws_settings

pytestmark = pytest.mark.live

KEY = "dGhlIHNhbXBsZSBub25jZQ=="
UPGRADE = {
    "Host": "tracking.example",
    "Upgrade": "websocket",
    "Connection": "keep-alive, Upgrade",
    "Sec-WebSocket-Key": KEY,
    "Sec-WebSocket-Version": "13",
}


def request(target: str = "/tracking", line: str = "", **fields: str | None) -> bytes:
    """An upgrade with a good token, changed by `fields`: `_` for `-`, None leaves one out."""
    if "Authorization" not in fields:
        fields["Authorization"] = f"Bearer {make_token()}"
    merged: dict[str, str | None] = {**UPGRADE, **{name.replace("_", "-"): value for name, value in fields.items()}}
    lines = [line or f"GET {target} HTTP/1.1", *(f"{k}: {v}" for k, v in merged.items() if v is not None)]
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n"


async def exchange(site: Site, sent: bytes) -> tuple[int, dict[str, str], bytes]:
    """Status, header fields in lower case, and body of the answer."""
    async with await site.raw() as stream:
        await stream.send_all(sent)
        return await answer_on(stream)


async def answer_on(stream: trio.SocketStream) -> tuple[int, dict[str, str], bytes]:
    received = b""
    with trio.fail_after(5):
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


async def test_the_answer_of_rfc_6455(tmp_path: Path) -> None:
    async with running_site(tmp_path) as site:
        code, fields, body = await exchange(site, request())
        assert code == 101
        assert fields["sec-websocket-accept"] == "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
        assert "sec-websocket-protocol" not in fields
        assert body == b""


async def test_a_token_in_each_of_three_places(tmp_path: Path) -> None:
    token = make_token()
    async with running_site(tmp_path) as site:
        assert await status(site, request(Authorization=f"Bearer {token}")) == 101
        assert await status(site, request(f"/tracking?token={token}", Authorization=None)) == 101
        code, fields, _ = await exchange(
            site, request(Authorization=None, Sec_WebSocket_Protocol=f"tracking.v1, bearer.{token}")
        )
        assert (code, fields["sec-websocket-protocol"]) == (101, "tracking.v1")


async def test_the_first_token_found_counts(tmp_path: Path) -> None:
    good = make_token()
    async with running_site(tmp_path) as site:
        assert await status(site, request(f"/tracking?token={good}", Authorization="Bearer bad")) == 401
        assert await status(site, request(f"/tracking?token={good}", Authorization=None)) == 101


async def test_subprotocols(tmp_path: Path) -> None:
    async with running_site(tmp_path) as site:
        token = make_token()
        assert await status(site, request(Authorization=None, Sec_WebSocket_Protocol=f"bearer.{token}")) == 400
        code, fields, _ = await exchange(site, request(Sec_WebSocket_Protocol="tracking.v1"))
        assert (code, fields["sec-websocket-protocol"]) == (101, "tracking.v1")
        code, fields, _ = await exchange(site, request(Sec_WebSocket_Protocol="chat"))
        assert code == 101
        assert "sec-websocket-protocol" not in fields


@pytest.mark.parametrize(
    "token",
    [
        "",
        "x",
        "a.b.c",
        make_token(ttl_s=-1),
        make_token(secret="another secret of at least 32 bytes!"),
        make_token(exp=None),
        make_token(exp="tomorrow"),
        make_token() + "x",
        make_token(races="R1"),
        # alg none
        "eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0.eyJleHAiOjk5OTk5OTk5OTl9.",
    ],
)
async def test_bad_tokens(tmp_path: Path, token: str) -> None:
    async with running_site(tmp_path) as site:
        code, fields, _ = await exchange(site, request(Authorization=f"Bearer {token}"))
        assert (code, fields["www-authenticate"]) == (401, "Bearer")
        assert site.dropped("unauthorized") == 1


async def test_no_token(tmp_path: Path) -> None:
    async with running_site(tmp_path) as site:
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
async def test_origins(tmp_path: Path, cors_origin: tuple[str, ...], origin: str | None, code: int) -> None:
    async with running_site(tmp_path, ws_settings(cors_origin=cors_origin)) as site:
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
async def test_without_tokens_only_this_machine(tmp_path: Path, host: str, origin: str | None, code: int) -> None:
    async with running_site(tmp_path, ws_settings(auth="off")) as site:
        assert await status(site, request(Authorization=None, Host=host, Origin=origin)) == code


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        (request("/other"), 404),
        (request("/"), 404),
        (request("/tracking/"), 404),
        (request("/other", Authorization=None), 404),
        (request(line="POST /tracking HTTP/1.1"), 400),
        (request(line="GET /tracking HTTP/1.0"), 400),
        (request(Host=None), 400),
        (request(Connection="keep-alive"), 400),
        (request(Connection=None), 400),
        (request(Sec_WebSocket_Key=None), 400),
        (request(Sec_WebSocket_Key="short"), 400),
        (request(Sec_WebSocket_Key="\xe9" * 24), 400),
        (request(Sec_WebSocket_Version="8"), 426),
        (request(Sec_WebSocket_Version=None), 426),
        (request(Content_Length="5"), 400),
        (request(Sec_WebSocket_Protocol="tracking.v1, tracking.v1"), 400),
        (request(Sec_WebSocket_Protocol="a b"), 400),
        (request(Upgrade=None), 426),
        (request(X="\x00"), 400),
        (request(line="GET /tracking HTTP/1.1 extra"), 400),
        (request(line="GET /tracking HTTP/2.0"), 400),
        (request(line="GET"), 400),
    ],
)
async def test_refusals(tmp_path: Path, sent: bytes, code: int) -> None:
    async with running_site(tmp_path) as site:
        answer = await exchange(site, sent)
        assert answer[0] == code
        if code == 426:
            assert answer[1]["sec-websocket-version"] == "13"


async def test_too_many_dashboards(tmp_path: Path) -> None:
    async with running_site(tmp_path, ws_settings(max_connections=2)) as site:
        async with site.dashboard(), site.dashboard():
            assert await status(site, request()) == 503
            assert site.dropped("unavailable") == 1
        await until(lambda: not site.listener.dashboards)
        assert await status(site, request()) == 101


async def test_too_many_handshakes_and_one_that_takes_too_long(tmp_path: Path) -> None:
    async with running_site(tmp_path, ws_settings(max_handshakes=1, handshake_timeout_s=1)) as site:
        async with await site.raw() as idle:
            await idle.send_all(b"GET /tr")
            await until(lambda: site.listener.handshakes == 1)
            assert await status(site, request()) == 503
            started = trio.current_time()
            assert (await answer_on(idle))[0] == 408
            assert trio.current_time() - started < 3
        assert await status(site, request()) == 101


async def test_one_byte_at_a_time(tmp_path: Path) -> None:
    async with running_site(tmp_path) as site, await site.raw() as stream:
        for byte in request():
            await stream.send_all(bytes([byte]))
        assert (await answer_on(stream))[0] == 101


async def test_a_request_sent_together_with_the_upgrade_is_answered(tmp_path: Path) -> None:
    payload = b'{"event": "list_races", "id": 1}'
    frame = bytes([0x81, 0x80 | len(payload)]) + bytes(4) + payload
    async with running_site(tmp_path) as site, await site.raw() as stream:
        await stream.send_all(request() + frame)
        received = b""
        with trio.fail_after(5):
            while b'"races":[]' not in received:
                received += await stream.receive_some(4096)


async def test_http_is_carried_to_the_socket_behind(tmp_path: Path) -> None:
    sent = b"POST /api?x=1 HTTP/1.1\r\nHost: a\r\nX: \xff\r\nContent-Length: 100000\r\n\r\n" + b"b" * 100_000
    seen = trio.Event()

    async def backend(stream: trio.SocketStream) -> None:
        received = b""
        while len(received) < len(sent):
            received += await stream.receive_some(65536)
        assert received == sent
        await stream.send_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        assert await stream.receive_some(1) == b""
        seen.set()
        await stream.aclose()

    sock = trio.socket.socket(trio.socket.AF_UNIX)
    await sock.bind(str(tmp_path / "http.sock"))
    sock.listen()
    async with running_site(tmp_path) as site, trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, backend, [trio.SocketListener(sock)])
        async with await site.raw() as stream:
            await stream.send_all(sent)
            await stream.send_eof()
            with trio.fail_after(5):
                answer = b""
                while data := await stream.receive_some(4096):
                    answer += data
                await seen.wait()
            assert answer.endswith(b"ok")
        nursery.cancel_scope.cancel()


async def test_http_while_nobody_serves_it(tmp_path: Path) -> None:
    async with running_site(tmp_path) as site:
        assert await status(site, b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n") == 503


GARBAGE = {
    "nothing": b"",
    "one byte": b"G",
    "empty lines": b"\r\n" * 100,
    "line feeds": b"GET / HTTP/1.1\n\n",
    "NUL bytes": bytes(1000),
    "TLS hello": bytes.fromhex("16030100c8010000c40303") + bytes(200),
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "a frame": b"\x81\x05hello",
    "MQTT connect": b"\x10\x0c\x00\x04MQTT\x05\x02\x00\x3c\x00\x00",
    "0xff": b"\xff" * 5000,
    "random": bytes(range(256)) * 20,
    "no version": b"GET /tracking\r\n\r\n",
    "lower case": b"get /tracking http/1.1\r\n\r\n",
    "no colon": b"GET /tracking HTTP/1.1\r\nHost\r\n\r\n",
    "blank before colon": b"GET /tracking HTTP/1.1\r\nHost : a\r\n\r\n",
    "folded": b"GET /tracking HTTP/1.1\r\nHost: a\r\n b\r\n\r\n",
    "non-ASCII name": b"GET /tracking HTTP/1.1\r\nH\xc3\xb6st: a\r\n\r\n",
    "non-ASCII value": request().replace(b"tracking.example", b"tr\xe4cking.example"),
    "non-ASCII key": request(Sec_WebSocket_Key="\xff"),
    "non-ASCII version": request(Sec_WebSocket_Version="\xb3"),
    "non-ASCII upgrade": request(Upgrade="web\xe9socket"),
    "non-ASCII connection": request(Connection="\xe9, upgrade"),
    "non-ASCII protocol": request(Sec_WebSocket_Protocol="tr\xe4cking.v1"),
    "non-ASCII extensions": request(Sec_WebSocket_Extensions="permessage-d\xe9flate"),
    "non-ASCII authorization": request(Authorization="Bearer \xe9\xe9"),
    "non-ASCII origin": request(Origin="http://\xe9"),
    "non-ASCII path": b"GET /tr\xc3\xa4cking HTTP/1.1\r\nHost: a\r\n\r\n",
    "broken percent": request("/tracking%ff%"),
    "broken query": request("/tracking?%ff&&&=;token"),
    "absolute form": request("http://[broken/tracking"),
    "asterisk": request("*"),
    "bad extensions": request(Sec_WebSocket_Extensions='permessage-deflate; server_max_window_bits="'),
    "two hosts": request(X="y\r\nHost: b"),
    "two keys": request(X=f"y\r\nSec-WebSocket-Key: {KEY}"),
    "two versions": request(X="y\r\nSec-WebSocket-Version: 13"),
    "chunked": request(Transfer_Encoding="chunked") + b"5\r\nhello\r\n0\r\n\r\n",
    "200 kB header": request(X="x" * 200_000),
    "200 kB of headers": request(X="y" + "\r\nA: b" * 30_000),
    "200 kB target": request("/tracking?" + "x" * 200_000),
    "plain GET": b"GET /tracking HTTP/1.1\r\nHost: a\r\n\r\n",
    "two requests": b"GET / HTTP/1.1\r\nHost: a\r\n\r\n" * 2,
    "good, then garbage": request() + b"\xff" * 1000,
    "good, then not masked": request() + b"\x81\x05hello",
    "good, then reserved bits": request() + b"\xf1\x80\0\0\0\0",
    "good, then a huge frame": request() + b"\x81\xff\x7f\xff\xff\xff\xff\xff\xff\xff\0\0\0\0",
    "good, then bad UTF-8": request() + b"\x81\x82\0\0\0\0\xc3\x28",
    "good, then a close of one byte": request() + b"\x88\x81\0\0\0\0x",
    "good, then a long ping": request() + b"\x89\xfe\x00\xff\0\0\0\0" + b"x" * 255,
    "good, then a lone continuation": request() + b"\x80\x81\0\0\0\0x",
}


@pytest.mark.parametrize("ending", ["eof", "close", "reset"])
async def test_garbage_ends_at_most_its_own_connection(tmp_path: Path, ending: str) -> None:
    async with running_site(tmp_path, ws_settings(handshake_timeout_s=1)) as site, site.dashboard() as dashboard:

        async def send(garbage: bytes) -> None:
            stream = await site.raw()
            try:
                with trio.move_on_after(3):
                    await stream.send_all(garbage)
                    if ending == "eof":
                        await stream.send_eof()
                        while await stream.receive_some(65536):
                            pass
                    elif ending == "reset":
                        reset_on_close(stream)
            except trio.BrokenResourceError:
                pass  # the server had enough
            finally:
                await trio.aclose_forcefully(stream)

        async with trio.open_nursery() as nursery:
            for garbage in GARBAGE.values():
                nursery.start_soon(send, garbage)
        assert (await dashboard.ask("subscribe_race", {"raceId": "R1"}))["event"] == "race_snapshot"
        assert await status(site, request()) == 101
        assert site.dropped("crash") == 0
        await until(lambda: len(site.listener.dashboards) == 1)


@pytest.mark.parametrize(
    ("frames", "code"),
    [
        (b"\x81\x05hello", 1002),
        (b"\xf1\x80\0\0\0\0", 1002),
        (b"\x81\x82\0\0\0\0\xc3\x28", 1007),
        (b"\x80\x81\0\0\0\0x", 1002),
    ],
)
async def test_broken_frames_are_told_why(tmp_path: Path, frames: bytes, code: int) -> None:
    async with running_site(tmp_path) as site, await site.raw() as stream:
        await stream.send_all(request())
        await answer_on(stream)
        await stream.send_all(frames)
        received = b""
        with trio.fail_after(5):
            while data := await stream.receive_some(4096):
                received += data
        assert received[0] == 0x88
        assert int.from_bytes(received[2:4], "big") == code
        await site.until_dropped("protocol_error")


async def test_expired_means_expired(tmp_path: Path) -> None:
    async with running_site(tmp_path) as site:
        assert await status(site, request(Authorization=f"Bearer {make_token(exp=int(time.time()))}")) == 401
