"""http/server.py under the listener, without sockets: request after request on one connection, and how each may end."""

from __future__ import annotations

import json

import pytest
import structlog.testing
import trio
import trio.testing
from starlette.types import Receive, Scope, Send

from actors.dashboards.listener import KEEP_ALIVE_S, STOP_S
from actors.http.gate import MAX_BODY_BYTES, Gate
from actors.http.server import AHEAD_BYTES, LEFT_S, RECEIVE_BYTES
from tests.dashboards.hostile import get
from tests.dashboards.listener_bench import running
from tests.kit.dashboards import ws_settings
from tests.kit.http_client import HttpClient
from tests.kit.websocket import request

settled = trio.testing.wait_all_tasks_blocked
LIST_RACES = b'{"event": "list_races", "id": 1}'
FRAME = bytes([0x81, 0x80 | len(LIST_RACES)]) + bytes(4) + LIST_RACES


class Application:
    """`/slow` waits for `go`, `/bug` crashes, `/late` after its head, `/304`, `/stream` has no length."""

    def __init__(self) -> None:
        self.go = trio.Event()
        self.under_way = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.under_way += 1
        try:
            await self._answer(scope["path"], send)
        finally:
            self.under_way -= 1

    async def _answer(self, path: str, send: Send) -> None:
        if path == "/slow":
            await self.go.wait()
        if path == "/bug":
            raise ZeroDivisionError
        status, headers = (304, []) if path == "/304" else (200, [(b"content-length", b"5")])
        await send({"type": "http.response.start", "status": status, "headers": [] if path == "/stream" else headers})
        if path == "/late":
            await send({"type": "http.response.body", "body": b"he", "more_body": True})
            raise ZeroDivisionError
        for letter in b"hell":
            await send({"type": "http.response.body", "body": bytes([letter]), "more_body": True})
        await send({"type": "http.response.body", "body": b"o"})


def post(*lines: str, path: str = "/") -> bytes:
    return get(*lines, line=f"POST {path} HTTP/1.1")


BEFORE = {
    "GET": get(),
    "HEAD": get(line="HEAD / HTTP/1.1"),
    "304": get(line="GET /304 HTTP/1.1"),
    "no length": get(line="GET /stream HTTP/1.1"),
    "a body": post("Content-Length: 5") + b"hello",
    "a chunked body": post("Transfer-Encoding: chunked") + b"5\r\nhello\r\n0\r\nX: trailer\r\n\r\n",
    "an expected body": post("Expect: 100-continue", "Content-Length: 5") + b"hello",
    "an offer of HTTP/2": get("Upgrade: h2c", "Connection: Upgrade, HTTP2-Settings", "HTTP2-Settings: AAMAAABk"),
}


@pytest.fixture
def app() -> Application:
    return Application()


@pytest.mark.parametrize("before", BEFORE.values(), ids=BEFORE)
async def test_any_request_of_a_connection_may_become_a_dashboard(
    autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch, app: Application, before: bytes
) -> None:
    async with running(monkeypatch, app=Gate(app, loopback_only=False)) as bench:
        stream = bench.open()
        client = HttpClient(stream)
        for _ in range(3):
            reply = await client.ask(before)
            assert reply.whole
            assert reply.body in (b"hello", b"")
            assert "date" in reply.headers
            assert "connection" not in reply.headers
            assert not client.rest
        board = await bench.dashboard(stream)
        assert (await board.ask("list_races"))["event"] == "races"


@pytest.mark.parametrize("before", [BEFORE["GET"], BEFORE["a body"], BEFORE["a chunked body"], get() * 50])
async def test_all_of_it_at_once(
    autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch, app: Application, before: bytes
) -> None:
    """Requests, an upgrade, and a frame behind it, in one write or byte by byte."""
    for size in (100_000, 1):
        async with running(monkeypatch, app=Gate(app, loopback_only=False)) as bench:
            client = HttpClient(bench.open())
            sent = before + request() + FRAME
            for start in range(0, len(sent), size):
                await client.stream.send_all(sent[start : start + size])
            for _ in range(before.count(b" HTTP/1.1\r\n")):
                assert (await client.reply()).body == b"hello"
            received = client.rest
            with trio.fail_after(30):
                while b'"races":[]' not in received:
                    received += await client.stream.receive_some()
            assert received.startswith(b"HTTP/1.1 101 ")


async def test_answers_come_in_the_order_of_their_requests(
    autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch, app: Application
) -> None:
    async with running(monkeypatch, app=app) as bench:
        client = HttpClient(bench.open())
        await client.stream.send_all(get(line="GET /slow HTTP/1.1") + get(line="HEAD / HTTP/1.1") + get())
        await settled()
        assert app.under_way == 1
        app.go.set()
        assert [(await client.reply(name)).body for name in (b"GET", b"HEAD", b"GET")] == [b"hello", b"", b"hello"]


async def test_what_is_read_while_an_answer_is_under_way_is_bounded(
    autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch, app: Application
) -> None:
    class Counting(trio.abc.ReceiveStream):
        received = 0

        async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
            data = await theirs.receive_stream.receive_some(max_bytes)
            self.received += len(data)
            return data

        async def aclose(self) -> None:
            await theirs.receive_stream.aclose()

    async with running(monkeypatch, app=app) as bench:
        mine, theirs = trio.testing.memory_stream_pair()
        counting = Counting()
        bench.port.send.send_nowait(trio.StapledStream(theirs.send_stream, counting))
        client = HttpClient(mine)
        await mine.send_all(get(line="GET /slow HTTP/1.1") + get(f"Long: {'x' * 1000}") * 200)
        await settled()
        assert counting.received < AHEAD_BYTES + 2 * RECEIVE_BYTES
        app.go.set()
        for _ in range(201):
            assert (await client.reply()).body == b"hello"


LAST = {
    "Connection: close": get("Connection: close"),
    "HTTP/1.0": b"GET / HTTP/1.0\r\n\r\n",
    "HTTP/1.0 without a length": b"GET /stream HTTP/1.0\r\n\r\n",
    "two lengths, by which a proxy may have been led astray": post("Transfer-Encoding: chunked", "Content-Length: 3")
    + b"0\r\n\r\nGET",
}


@pytest.mark.parametrize("last", LAST.values(), ids=LAST)
async def test_a_last_request_is_answered_and_what_follows_is_not(
    autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch, app: Application, last: bytes
) -> None:
    async with running(monkeypatch, app=Gate(app, loopback_only=False)) as bench:
        client = HttpClient(bench.open())
        reply = await client.ask(last + get() * 3)
        assert (reply.status, reply.body, reply.headers["connection"]) == (200, b"hello", "close")
        assert await client.ended() == b""


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (post("Transfer-Encoding: chunked") + b"zz\r\n", 400),
        (post("Transfer-Encoding: gzip"), 501),
        (post("Content-Length: 5, 6") + b"hello", 400),
        (post("Content-Length: 100000") + bytes(MAX_BODY_BYTES + 1), 413),
        (get(line="GET /bug HTTP/1.1"), 500),
    ],
)
async def test_refused_with_a_reason_and_closed(
    autojump_clock: trio.testing.MockClock,
    monkeypatch: pytest.MonkeyPatch,
    app: Application,
    sent: bytes,
    status: int,
) -> None:
    async with running(monkeypatch, app=Gate(app, loopback_only=False)) as bench:
        client = HttpClient(bench.open())
        assert (await client.ask(get())).status == 200
        reply = await client.ask(sent + get())
        assert (reply.status, reply.headers["connection"]) == (status, "close")
        assert set(json.loads(reply.body)["error"]) == {"code", "message"}
        assert await client.ended() == b""


async def test_a_body_that_ends_too_early(
    autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch, app: Application
) -> None:
    async with running(monkeypatch, app=Gate(app, loopback_only=False)) as bench:
        stream = bench.open()
        await stream.send_all(post("Content-Length: 5") + b"hell")
        await stream.send_eof()
        assert (await HttpClient(stream).reply()).status == 400


async def test_the_body_is_asked_for_when_the_client_waits_for_that(
    autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch, app: Application
) -> None:
    async with running(monkeypatch, app=Gate(app, loopback_only=False)) as bench:
        stream = bench.open()
        await stream.send_all(post("Expect: 100-continue", "Content-Length: 5"))
        assert (await stream.receive_some()).startswith(b"HTTP/1.1 100 ")
        assert (await HttpClient(stream).ask(b"hello")).body == b"hello"


async def test_a_bug_in_a_route_is_logged_and_costs_that_answer_only(
    autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch, app: Application
) -> None:
    async with running(monkeypatch, app=app) as bench:
        with structlog.testing.capture_logs() as logs:
            reply = await HttpClient(bench.open()).ask(get(line="GET /late?token=T HTTP/1.1"))
        assert (reply.status, reply.body, reply.whole) == (200, b"he", False)
        assert [isinstance(line["exc_info"], ZeroDivisionError) for line in logs] == [True]
        assert (await HttpClient(bench.open()).ask(get())).body == b"hello"
        assert bench.dropped("crash") == 0


async def test_who_has_said_the_last_word_is_answered_for_a_bounded_time(
    autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch, app: Application
) -> None:
    async with running(monkeypatch, app=app) as bench:
        for answered in (True, False):
            stream = bench.open()
            await stream.send_all(get(line="GET /slow HTTP/1.1"))
            await stream.send_eof()
            await trio.sleep(LEFT_S - 1)
            assert app.under_way == 1
            if answered:
                app.go.set()
                assert (await HttpClient(stream).reply()).body == b"hello"
                app.go = trio.Event()
            else:
                await trio.sleep(2)
                assert app.under_way == 0
            assert await HttpClient(stream).ended() == b""


async def test_an_idle_connection_is_kept_for_a_while(
    autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch, app: Application
) -> None:
    async with running(monkeypatch, app=app) as bench:
        client = HttpClient(bench.open())
        for _ in range(3):
            assert (await client.ask(get())).status == 200
            await trio.sleep(KEEP_ALIVE_S - 1)
        assert (await client.ask(get())).status == 200
        started = trio.current_time()
        assert await client.stream.receive_some() == b""
        assert trio.current_time() - started == pytest.approx(KEEP_ALIVE_S)


async def test_a_head_that_has_begun_has_to_come_in_time_on_every_request(
    autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch, app: Application
) -> None:
    async with running(monkeypatch, app=app) as bench:
        client = HttpClient(bench.open())
        assert (await client.ask(get())).status == 200
        await trio.sleep(10)
        started = trio.current_time()
        assert (await client.ask(get()[:-3])).status == 408
        assert trio.current_time() - started == pytest.approx(5)


async def test_a_crowd_that_says_nothing_keeps_no_probe_out(
    autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch, app: Application
) -> None:
    """Nor one that says half a head. It takes no more places than there are, and costs others their idle ones."""
    monkeypatch.setattr("actors.dashboards.waiting.EXTRA", 2)
    async with running(monkeypatch, ws_settings(max_handshakes=3), app) as bench:
        kept = HttpClient(bench.open())
        assert (await kept.ask(get())).status == 200
        crowd = [HttpClient(bench.open()) for _ in range(8)]
        for client in crowd[::2]:
            await client.stream.send_all(get()[:-2])
        await settled()
        assert len(bench.listener.waiting) == 5
        assert await kept.ended() == b""  # it had not asked for anything
        for client in crowd[3:6]:
            assert (await client.reply()).status == 503
        probe = HttpClient(bench.open())
        for _ in range(2):
            assert (await probe.ask(get())).body == b"hello"
            assert await probe.ended() == b""  # nor is there a place to be idle
            probe = HttpClient(bench.open())
        assert (await probe.ask(request())).status == 503
        for client in crowd[:3]:
            assert (await client.reply()).status == 408
        board = await bench.dashboard()
        assert (await board.ask("list_races"))["event"] == "races"


async def test_idle_connections_are_bounded_too(
    autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch, app: Application
) -> None:
    async with running(monkeypatch, ws_settings(max_handshakes=3), app) as bench:
        clients = [HttpClient(bench.open()) for _ in range(5)]
        for client in clients:
            assert (await client.ask(get())).status == 200
        for client in clients[:2]:
            assert await client.ended() == b""
        for client in clients[2:]:
            assert (await client.ask(get())).status == 200
        assert await bench.dashboard()


async def test_a_stop_lets_answers_finish_within_its_time(
    autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch, app: Application
) -> None:
    async with running(monkeypatch, app=app) as bench:
        idle, busy = HttpClient(bench.open()), HttpClient(bench.open())
        assert (await idle.ask(get())).status == 200
        await busy.stream.send_all(get(line="GET /slow HTTP/1.1"))
        await settled()
        started = trio.current_time()
        bench.scope.cancel()
        await trio.sleep(STOP_S - 0.1)
        app.go.set()
        assert (await busy.reply()).body == b"hello"
        assert await idle.ended() == b""
        assert trio.current_time() - started < STOP_S


async def test_a_stop_waits_for_no_answer_longer(
    autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch, app: Application
) -> None:
    async with running(monkeypatch, app=app) as bench:
        client = HttpClient(bench.open())
        await client.stream.send_all(get(line="GET /slow HTTP/1.1"))
        await settled()
        started = trio.current_time()
        bench.scope.cancel()
        assert await client.ended() == b""
        assert trio.current_time() - started == pytest.approx(STOP_S)
        assert app.under_way == 0
