"""HTTP on real sockets: clients that are rude, slow, gone or many. In time and without sockets: http/test_server.py."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
import trio.testing
from starlette.types import Receive, Scope, Send

from actors.dashboards.listener import STOP_S
from actors.http.gate import Gate
from tests.dashboards.hostile_site import read_all
from tests.kit.client import reset_on_close
from tests.kit.dashboards import Site, running_site, until

pytestmark = pytest.mark.live

BIG = b"x" * (1024 * 1024)


class Application:
    """`/` answers, `/slow` never does, `/endless` never ends. Counts what is under way."""

    def __init__(self) -> None:
        self.asked = trio.Event()
        self.under_way = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.under_way += 1
        try:
            self.asked.set()
            await self._answer(scope["path"], send)
        finally:
            self.under_way -= 1

    async def _answer(self, path: str, send: Send) -> None:
        if path == "/slow":
            await trio.sleep_forever()
        headers = [] if path == "/endless" else [(b"content-length", b"5")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        while path == "/endless":
            await send({"type": "http.response.body", "body": BIG, "more_body": True})
        await send({"type": "http.response.body", "body": b"hello"})


@asynccontextmanager
async def serving(app: Application) -> AsyncIterator[Site]:
    async with running_site(app=Gate(app, loopback_only=False)) as site:
        yield site
    assert app.under_way == 0


async def ask(site: Site, request: bytes) -> bytes:
    """Send it all, say no more, read to the end."""
    async with await site.raw() as stream:
        try:
            await stream.send_all(request)
            await stream.send_eof()
        except (trio.BrokenResourceError, OSError):
            pass  # refused before it had all
        with trio.fail_after(30):
            return await read_all(stream)


def get(path: str, *lines: str) -> bytes:
    return "\r\n".join([f"GET {path} HTTP/1.1", "Host: localhost", *lines, "", ""]).encode("latin-1")


async def test_stopping_does_not_wait_for_who_takes_nothing() -> None:
    app = Application()
    async with serving(app) as site:
        stream = await site.raw()
        await stream.send_all(get("/endless"))
        await app.asked.wait()
        await trio.testing.wait_all_tasks_blocked(0.05)  # in the middle of a send
        started = trio.current_time()
        site.scope.cancel()
        await site.stopped.wait()
        assert trio.current_time() - started < STOP_S + 1
        await stream.aclose()


async def test_who_takes_nothing_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("actors.http.server.SEND_TIMEOUT_S", 0.2)
    app = Application()
    async with serving(app) as site, await site.raw() as stream:
        await stream.send_all(get("/endless"))
        with trio.fail_after(30):
            await app.asked.wait()
        await until(lambda: app.under_way == 0)
        assert (await read_all(stream)).startswith(b"HTTP/1.1 200")
        assert (await ask(site, get("/"))).endswith(b"hello")


@pytest.mark.parametrize("path", ["/slow", "/endless"])
async def test_the_answer_to_who_has_gone_is_given_up(path: str) -> None:
    app = Application()
    async with serving(app) as site:
        stream = await site.raw()
        await stream.send_all(get(path))
        await app.asked.wait()
        reset_on_close(stream)
        await trio.aclose_forcefully(stream)
        await until(lambda: app.under_way == 0)
        assert site.dropped("crash") == 0


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
async def test_rude_clients_do_not_end_the_server(request_bytes: bytes) -> None:
    async with serving(Application()) as site:
        for before in (b"", get("/")):
            await ask(site, before + request_bytes)
            gone = await site.raw()
            await gone.send_all(before + request_bytes)
            await trio.aclose_forcefully(gone)
            assert (await ask(site, get("/"))).endswith(b"hello")
        assert site.dropped("crash") == 0


async def test_made_up_rubbish_does_not_end_the_server() -> None:
    chance = random.Random(7)
    seeds = list(RUDE.values())
    async with serving(Application()) as site:
        for _turn in range(300):
            rubbish = bytearray(chance.choice(seeds)[:2000] + chance.choice(seeds)[:2000])
            for _change in range(chance.randrange(5)):
                if rubbish:
                    rubbish[chance.randrange(len(rubbish))] = chance.randrange(256)
            await ask(site, bytes(rubbish))
        assert (await ask(site, get("/"))).endswith(b"hello")
        assert site.dropped("crash") == 0


UNWANTED = {
    "little too much": get("/", "Content-Length: 4097") + b"x" * 4_097,
    "much": get("/", "Content-Length: 3000000") + b"x" * 3_000_000,
    "many": get("/", "Transfer-Encoding: chunked") + b"1\r\nx\r\n" * 20_000,
}


@pytest.mark.parametrize("request_bytes", UNWANTED.values(), ids=UNWANTED)
async def test_a_body_that_nobody_wants_does_not_hang_the_connection(request_bytes: bytes) -> None:
    async with serving(Application()) as site:
        answer = await ask(site, request_bytes)
        assert answer.startswith(b"HTTP/1.1 413"), answer[:100]
        assert b'"too_large"' in answer
