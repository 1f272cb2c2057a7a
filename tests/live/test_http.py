"""HttpServer on a real Unix socket: what hypercorn does with clients that are rude, slow, gone or many."""

from __future__ import annotations

import os
import random
import stat
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import pytest
import trio
import trio.testing
from starlette.types import ASGIApp, Receive, Scope, Send

from actors import http
from actors.errors import NotStarted
from actors.http import STOP_S, HttpServer
from actors.http_gate import Gate

pytestmark = pytest.mark.live

BIG = b"x" * (1024 * 1024)
SEND_TIMEOUT_S = 10.0


class Application:
    """`/` answers, `/slow` waits for `go`, `/endless` never ends, `/crash` has a bug. Counts what is under way."""

    def __init__(self) -> None:
        self.go = trio.Event()
        self.asked = trio.Event()
        self.under_way = 0
        self.finished = trio.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.under_way += 1
        try:
            self.asked.set()
            await self._answer(scope["path"], send)
        finally:
            self.under_way -= 1
            self.finished.set()

    async def _answer(self, path: str, send: Send) -> None:
        if path == "/crash":
            raise ZeroDivisionError
        if path == "/slow":
            await self.go.wait()
        headers = [(b"content-type", b"text/plain")]
        if path != "/endless":
            headers.append((b"content-length", b"5"))
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        while path == "/endless":
            await send({"type": "http.response.body", "body": BIG, "more_body": True})
        await send({"type": "http.response.body", "body": b"hello"})


@asynccontextmanager
async def serving(
    folder: Path, app: ASGIApp, send_timeout_s: float = SEND_TIMEOUT_S
) -> AsyncIterator[tuple[Callable[[], Awaitable[trio.SocketStream]], trio.Nursery]]:
    """A running server: how to connect to it, and the nursery to cancel it with."""
    path = folder / "http.sock"
    server = HttpServer(app, path, send_timeout_s)
    async with trio.open_nursery() as nursery:
        await nursery.start(server.run)
        yield partial(trio.open_unix_socket, path), nursery
        nursery.cancel_scope.cancel()
    assert not path.exists()


async def read_to_end(stream: trio.SocketStream) -> bytes:
    received = bytearray()
    with trio.fail_after(30):
        try:
            async for data in stream:
                received += data
        except trio.BrokenResourceError:
            pass  # a reset is an end too
    return bytes(received)


async def ask(connect: Callable[[], Awaitable[trio.SocketStream]], request: bytes) -> bytes:
    """Send it all, say no more, read to the end."""
    stream = await connect()
    async with stream:
        try:
            await stream.send_all(request)
            await stream.send_eof()
        except (trio.BrokenResourceError, OSError):
            pass  # refused before it had all
        return await read_to_end(stream)


def get(path: str, *lines: str) -> bytes:
    return "\r\n".join([f"GET {path} HTTP/1.1", "Host: localhost", *lines, "", ""]).encode("latin-1")


async def test_one_connection_serves_request_after_request(tmp_path: Path) -> None:
    async with serving(tmp_path, Application()) as (connect, _), await connect() as stream:
        for _turn in range(3):
            await stream.send_all(get("/"))
            received = b""
            with trio.fail_after(30):
                while not received.endswith(b"hello"):
                    received += await stream.receive_some()
            assert received.startswith(b"HTTP/1.1 200")
            assert b"hypercorn" not in received.lower()


async def test_only_the_owner_may_connect(tmp_path: Path) -> None:
    old = os.umask(0)
    try:
        async with serving(tmp_path, Application()):
            mode = os.stat(tmp_path / "http.sock").st_mode
            assert stat.S_ISSOCK(mode)
            assert stat.S_IMODE(mode) == 0o600
            now = os.umask(0)
            assert now == 0, "the umask of the process was changed"
    finally:
        os.umask(old)


async def test_a_socket_left_by_a_killed_daemon_is_replaced(tmp_path: Path) -> None:
    with trio.socket.socket(trio.socket.AF_UNIX) as left:
        await left.bind(str(tmp_path / "http.sock"))
    async with serving(tmp_path, Application()) as (connect, _):
        assert (await ask(connect, get("/"))).endswith(b"hello")


async def test_what_is_no_socket_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "http.sock").write_text("somebody's file")
    with pytest.raises(NotStarted, match=r"http\.sock"):
        await HttpServer(Application(), tmp_path / "http.sock").run()
    assert (tmp_path / "http.sock").read_text() == "somebody's file"


async def test_a_server_can_be_run_again(tmp_path: Path) -> None:
    server = HttpServer(Application(), tmp_path / "http.sock")
    for _turn in range(2):
        async with trio.open_nursery() as nursery:
            await nursery.start(server.run)
            answer = await ask(partial(trio.open_unix_socket, tmp_path / "http.sock"), get("/"))
            assert answer.endswith(b"hello")
            nursery.cancel_scope.cancel()


async def test_stopping_lets_an_answer_finish_and_closes_idle_connections(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http, "STOP_S", 60.0)  # so that idle connections are not closed by it
    app = Application()
    async with serving(tmp_path, app) as (connect, nursery):
        idle, busy = await connect(), await connect()
        async with idle, busy:
            await idle.send_all(get("/"))
            await idle.receive_some()
            app.asked = trio.Event()
            await busy.send_all(get("/slow"))
            await app.asked.wait()
            nursery.cancel_scope.cancel()
            with trio.CancelScope(shield=True), trio.fail_after(30):
                await read_to_end(idle)
                app.go.set()
                assert (await read_to_end(busy)).endswith(b"hello")


async def test_stopping_does_not_wait_for_who_takes_nothing(tmp_path: Path) -> None:
    app = Application()
    stream: trio.SocketStream | None = None
    async with serving(tmp_path, app) as (connect, _):
        stream = await connect()
        await stream.send_all(get("/endless"))
        await app.asked.wait()
        await trio.testing.wait_all_tasks_blocked(0.05)  # in the middle of a send
        started = trio.current_time()
    assert STOP_S <= trio.current_time() - started < SEND_TIMEOUT_S
    assert app.under_way == 0
    await stream.aclose()


async def test_who_takes_nothing_is_dropped(tmp_path: Path) -> None:
    app = Application()
    async with serving(tmp_path, app, send_timeout_s=0.2) as (connect, _), await connect() as stream:
        await stream.send_all(get("/endless"))
        with trio.fail_after(30):
            await app.asked.wait()
        got = await read_to_end_after(stream, 0.6)
        assert got.startswith(b"HTTP/1.1 200")
        assert (await ask(connect, get("/"))).endswith(b"hello")


async def read_to_end_after(stream: trio.SocketStream, pause_s: float) -> bytes:
    """A client that is slower than the send timeout: the pause is what is tested, not waited for."""
    await trio.sleep(pause_s)
    return await read_to_end(stream)


async def test_a_bug_in_a_route_costs_that_answer_only(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with serving(tmp_path, Application()) as (connect, _):
        assert (await ask(connect, get("/crash"))).startswith(b"HTTP/1.1 500")
        assert (await ask(connect, get("/"))).endswith(b"hello")
    assert "ZeroDivisionError" in caplog.text


UPGRADE = (
    "Upgrade: websocket",
    "Connection: Upgrade",
    "Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Key: " + "A" * 22 + "==",
)

RUDE = {
    "protocol not ASCII": get("/", *UPGRADE, "Sec-WebSocket-Protocol: \xff\xfe"),
    "extensions not ASCII": get("/", *UPGRADE, "Sec-WebSocket-Extensions: \xff"),
    "connection not ASCII": get("/", "Upgrade: websocket", "Connection: \xff"),
    "upgrade not ASCII": get("/", "Upgrade: \xff", "Connection: Upgrade"),
    "upgrade without key": get("/", *UPGRADE[:3]),
    "h2c": get("/", "Upgrade: h2c", "Connection: Upgrade, HTTP2-Settings", "HTTP2-Settings: AAMAAABkAAQAAP__"),
    "h2c with bad settings": get("/", "Upgrade: h2c", "Connection: Upgrade, HTTP2-Settings", "HTTP2-Settings: !"),
    "h2c without settings": get("/", "Upgrade: h2c", "Connection: Upgrade"),
    "h2 preface and rubbish": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\xff" * 100,
    "h2 preface alone": b"PRI * HTTP/2.0\r\n\r\n",
    "h2 preface cut": b"PRI * HTTP/2.0\r\n\r\nS",
    "no method": b" / HTTP/1.1\r\n\r\n",
    "no host": b"GET / HTTP/1.1\r\n\r\n",
    "two hosts": get("/", "Host: b"),
    "not HTTP": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" * 20,
    "head without end": b"GET / HTTP/1.1\r\nX: " + b"y" * 100_000,
    "path not ASCII": b"GET /\xff HTTP/1.1\r\nHost: a\r\n\r\n",
    "path of percent signs": get("/%%%%FF%ff%00"),
    "absolute form": get("http://localhost/"),
    "asterisk": b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n",
    "connect": b"CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n",
    "length twice": get("/", "Content-Length: 1", "Content-Length: 2"),
    "length negative": get("/", "Content-Length: -1"),
    "length huge": get("/", "Content-Length: " + "9" * 40) + b"x" * 1000,
    "chunk size wrong": get("/", "Transfer-Encoding: chunked") + b"zz\r\n",
    "unknown coding": get("/", "Transfer-Encoding: gzip"),
    "continue": get("/", "Expect: 100-continue", "Content-Length: 4") + b"body",
    "pipelined": get("/") * 50,
    "pipelined rubbish": get("/") + b"\x00\x01\x02",
    "HTTP/1.0": b"GET / HTTP/1.0\r\n\r\n",
    "HTTP/0.9": b"GET /\r\n",
    "HTTP/3.0": b"GET / HTTP/3.0\r\nHost: a\r\n\r\n",
    "nothing": b"",
}


@pytest.mark.parametrize("request_bytes", RUDE.values(), ids=RUDE)
async def test_rude_clients_do_not_end_the_server(tmp_path: Path, request_bytes: bytes) -> None:
    app = Gate(Application(), ws_path="/tracking", loopback_only=False)
    async with serving(tmp_path, app) as (connect, _):
        await ask(connect, request_bytes)
        gone = await connect()
        await gone.send_all(request_bytes)
        await trio.aclose_forcefully(gone)
        assert (await ask(connect, get("/"))).endswith(b"hello")


async def test_made_up_rubbish_does_not_end_the_server(tmp_path: Path) -> None:
    chance = random.Random(7)
    seeds = list(RUDE.values())
    app = Gate(Application(), ws_path="/tracking", loopback_only=False)
    async with serving(tmp_path, app) as (connect, _):
        for _turn in range(300):
            rubbish = bytearray(chance.choice(seeds)[:2000] + chance.choice(seeds)[:2000])
            for _change in range(chance.randrange(5)):
                if rubbish:
                    rubbish[chance.randrange(len(rubbish))] = chance.randrange(256)
            await ask(connect, bytes(rubbish))
        assert (await ask(connect, get("/"))).endswith(b"hello")


UNWANTED = {
    "little too much": get("/", "Content-Length: 4097") + b"x" * 4_097,
    "much": get("/", "Content-Length: 3000000") + b"x" * 3_000_000,
    "many": get("/", "Transfer-Encoding: chunked") + b"1\r\nx\r\n" * 20_000,
}


@pytest.mark.parametrize("request_bytes", UNWANTED.values(), ids=UNWANTED)
async def test_a_body_that_nobody_wants_does_not_hang_the_connection(tmp_path: Path, request_bytes: bytes) -> None:
    inner = Application()
    async with serving(tmp_path, Gate(inner, ws_path="/tracking", loopback_only=False)) as (connect, _):
        answer = await ask(connect, request_bytes)
        assert answer.startswith(b"HTTP/1.1 413"), answer[:100]
        assert b'"too_large"' in answer
    assert inner.under_way == 0


async def test_who_has_left_is_answered_for_a_bounded_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("actors.http.LEFT_S", 0.1)
    app = Application()
    async with serving(tmp_path, app) as (connect, _):
        assert await ask(connect, get("/slow")) == b""
    assert app.under_way == 0


async def test_a_websocket_elsewhere_is_404_with_a_reason(tmp_path: Path) -> None:
    app = Gate(Application(), ws_path="/tracking", loopback_only=False)
    async with serving(tmp_path, app) as (connect, _):
        answer = await ask(connect, get("/other", *UPGRADE))
        assert answer.startswith(b"HTTP/1.1 404"), answer
        assert b'"not_found"' in answer
