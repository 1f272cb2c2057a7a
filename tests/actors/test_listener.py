"""listener.py without sockets: connections over memory streams, a simulated clock."""

from __future__ import annotations

import errno
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import cast

import attrs
import pytest
import trio
import trio.testing
from trio_websocket import ConnectionClosed, WebSocketConnection, wrap_client_stream

from actors.access import Access
from actors.core.head import MAX_HEAD_BYTES
from actors.errors import CloseCode, NotStarted
from actors.health import Health
from actors.listener import ACCEPT_PAUSE_S, CLOSE_S, LINGER_S, MAX_REFUSALS, STOP_S, Listener
from actors.metrics import Metrics
from actors.settings import Settings
from tests.dashboards import SECRET, FakeHistory, FakeRaces, make_token, ws_settings

settled = trio.testing.wait_all_tasks_blocked
Memory = trio.StapledStream[trio.testing.MemorySendStream, trio.testing.MemoryReceiveStream]


class FakePort:
    """A listening socket: streams, or errors to raise, in order."""

    def __init__(self) -> None:
        self.send, self._receive = trio.open_memory_channel[trio.abc.Stream | OSError](1000)
        self.socket = self

    async def accept(self) -> trio.abc.Stream:
        found = await self._receive.receive()
        if isinstance(found, OSError):
            raise found
        return found

    def getsockname(self) -> tuple[str, int]:
        return ("127.0.0.1", 3000)

    def close(self) -> None:
        self.send.close()


@attrs.define(eq=False)
class Bench:
    """A listener that runs on a FakePort."""

    listener: Listener
    port: FakePort
    metrics: Metrics
    nursery: trio.Nursery  # for clients
    scope: trio.CancelScope = attrs.field(factory=trio.CancelScope)

    def open(self) -> Memory:
        """The client's end of a new connection."""
        client, server = trio.testing.memory_stream_pair()
        self.port.send.send_nowait(server)
        return client

    async def dashboard(self, wrap: Callable[[Memory], trio.abc.Stream] = lambda stream: stream) -> WebSocketConnection:
        return await self.upgrade(wrap(self.open()))

    async def upgrade(self, client: trio.abc.Stream) -> WebSocketConnection:
        # Any stream will do, whatever its annotation says.
        stream = cast(trio.SocketStream, client)
        return await wrap_client_stream(self.nursery, stream, "127.0.0.1", f"/tracking?token={make_token()}")

    @property
    def connected(self) -> float | None:
        return self.metrics.registry.get_sample_value("tracking_ws_connections")

    def dropped(self, reason: str) -> float:
        return self.metrics.registry.get_sample_value("tracking_ws_dropped_total", {"reason": reason}) or 0.0


def make_listener(settings: Settings, metrics: Metrics) -> Listener:
    access = Access(SECRET.encode(), True, ("*",))
    return Listener(
        settings,
        access,
        FakeRaces(),
        FakeHistory(),
        metrics,
        Health(metrics),
        lambda: 1_000_000_000_000,
        Path("/nonexistent"),
    )


@asynccontextmanager
async def running(monkeypatch: pytest.MonkeyPatch, settings: Settings | None = None) -> AsyncIterator[Bench]:
    metrics = Metrics()
    listener = make_listener(settings or ws_settings(), metrics)
    async with trio.open_nursery() as clients, trio.open_nursery() as nursery:
        bench = Bench(listener, FakePort(), metrics, clients)

        async def open_tcp_listeners(_port: int, *, host: str) -> list[FakePort]:
            await trio.lowlevel.checkpoint()
            bench.port = FakePort()
            return [bench.port]

        monkeypatch.setattr(trio, "open_tcp_listeners", open_tcp_listeners)

        async def run(*, task_status: trio.TaskStatus[list[int]]) -> None:
            with bench.scope:
                await listener.run(task_status=task_status)

        assert await nursery.start(run) == [3000]
        yield bench
        bench.scope.cancel()
        clients.cancel_scope.cancel()


async def test_dashboards_are_pinged_and_stay(
    autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(monkeypatch) as bench:
        connection = await bench.dashboard()
        await trio.sleep(20 * 20)
        await connection.send_message('{"event": "list_races"}')
        assert json.loads(await connection.get_message())["event"] == "races"


async def test_pongs_are_seen_while_questions_wait_for_their_answers(
    autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The library's reader stands still, and with it the pongs, once nobody takes the messages that it has read."""
    async with running(monkeypatch) as bench:
        cast(FakeHistory, bench.listener.history).gate = gate = trio.Event()
        connection = await bench.dashboard()
        for _ in range(5):
            await connection.send_message('{"event": "get_history", "data": {"raceId": "R1"}}')
        await trio.sleep(10 * 20)
        gate.set()
        for _ in range(5):
            assert json.loads(await connection.get_message())["event"] == "history"


class Deaf(trio.abc.Stream):
    """A client's stream that stops reading once it is connected."""

    def __init__(self, stream: Memory) -> None:
        self._stream = stream
        self.deaf = False

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        data = await self._stream.receive_some(max_bytes)
        if self.deaf:
            await trio.sleep_forever()
        return data

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await self._stream.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        await self._stream.wait_send_all_might_not_block()

    async def aclose(self) -> None:
        await self._stream.aclose()


async def deaf_dashboard(bench: Bench) -> WebSocketConnection:
    streams: list[Deaf] = []

    def wrap(stream: Memory) -> Deaf:
        streams.append(Deaf(stream))
        return streams[0]

    connection = await bench.dashboard(wrap)
    streams[0].deaf = True
    return connection


async def test_without_pongs_a_dashboard_is_dropped_after_two_heartbeats(
    autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(monkeypatch) as bench:
        await deaf_dashboard(bench)
        await trio.sleep(2 * 20)
        assert len(bench.listener.dashboards) == 1
        await trio.sleep(2 * 20)
        assert not bench.listener.dashboards
        assert bench.dropped("no_pong") == 1


async def test_a_stop_takes_no_longer_than_said_whatever_dashboards_do(
    autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(monkeypatch) as bench:
        good = await bench.dashboard()
        for _ in range(3):
            await deaf_dashboard(bench)
        started = trio.current_time()
        bench.scope.cancel()
        with pytest.raises(ConnectionClosed) as closed:
            await good.get_message()
        assert closed.value.reason is not None
        assert closed.value.reason.code == 1001
        assert trio.current_time() - started < 0.1
        assert bench.listener.health.components["websocket"].up
        await trio.sleep(STOP_S)
        assert not bench.listener.health.components["websocket"].up


async def test_a_close_that_is_not_answered_is_waited_for_a_second(
    autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(monkeypatch) as bench:
        await deaf_dashboard(bench)
        [dashboard] = bench.listener.dashboards
        dashboard.end("token_expired", CloseCode.TOKEN_EXPIRED)
        await trio.sleep(CLOSE_S - 0.1)
        assert bench.connected == 1
        await trio.sleep(CLOSE_S + LINGER_S)
        assert bench.connected == 0


async def test_it_can_be_run_again(autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch) -> None:
    async with running(monkeypatch) as bench:
        await bench.dashboard()
        bench.scope.cancel()
        await trio.sleep(STOP_S)
        async with trio.open_nursery() as nursery:
            await nursery.start(bench.listener.run)
            await bench.dashboard()
            assert len(bench.listener.dashboards) == 1
            nursery.cancel_scope.cancel()
        assert not bench.listener.dashboards


async def test_running_out_of_file_descriptors_is_waited_for(
    autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(monkeypatch) as bench:
        for code in (errno.EMFILE, errno.ENFILE, errno.ENOBUFS):
            bench.port.send.send_nowait(OSError(code, "full"))
        started = trio.current_time()
        await bench.dashboard()
        assert trio.current_time() - started == pytest.approx(3 * ACCEPT_PAUSE_S)


async def test_a_crash_of_one_connection_ends_no_other(
    autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Cursed(Deaf):
        async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
            raise ZeroDivisionError("cursed")

    async with running(monkeypatch) as bench:
        good = await bench.dashboard()
        bench.port.send.send_nowait(Cursed(trio.testing.memory_stream_pair()[0]))
        await settled()
        assert bench.dropped("crash") == 1
        await good.send_message('{"event": "list_races"}')
        assert json.loads(await good.get_message())["event"] == "races"


async def test_another_error_of_accept_is_a_crash(
    autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def crashing() -> None:
        async with running(monkeypatch) as bench:
            bench.port.send.send_nowait(OSError(errno.EBADF, "bad"))
            await trio.sleep(10)

    with pytest.raises(ExceptionGroup) as crash:
        await crashing()
    assert crash.group_contains(OSError)


async def test_a_port_that_is_taken() -> None:
    [taken] = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with taken:
        settings = ws_settings(port=taken.socket.getsockname()[1])
        with pytest.raises(NotStarted, match=r"cannot listen on 127\.0\.0\.1 port"):
            await make_listener(settings, Metrics()).run()


async def test_a_head_that_does_not_come(
    autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(monkeypatch) as bench:
        client = bench.open()
        await client.send_all(b"GET /tracking HTTP/1.1\r\n")
        started = trio.current_time()
        with trio.fail_after(10):
            assert (await client.receive_some()).startswith(b"HTTP/1.1 408 ")
        assert trio.current_time() - started == pytest.approx(5)
        assert bench.listener.handshakes == 0


async def test_a_library_that_does_not_get_through_its_handshake(
    autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(monkeypatch) as bench:
        client, server = trio.testing.memory_stream_pair()
        server.send_stream.send_all_hook = trio.sleep_forever
        bench.port.send.send_nowait(server)
        bench.nursery.start_soon(bench.upgrade, client)
        await settled()
        assert bench.connected == 1
        await trio.sleep(5.1)
        assert bench.connected == 0
        assert bench.dropped("crash") == 1


@pytest.mark.parametrize(("size", "status"), [(MAX_HEAD_BYTES, b"404"), (MAX_HEAD_BYTES + 1, b"431")])
async def test_the_limit_of_a_head(
    autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch, size: int, status: bytes
) -> None:
    start = b"GET /other HTTP/1.1\r\nUpgrade: websocket\r\nX: "
    async with running(monkeypatch) as bench:
        client = bench.open()
        await client.send_all(start + b"x" * (size - len(start)) + b"\r\n\r\n")
        assert (await client.receive_some()).split(b" ")[1] == status


async def test_refusals_that_linger_are_bounded(
    autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(monkeypatch) as bench:
        clients = [bench.open() for _ in range(MAX_REFUSALS + 5)]
        for client in clients:
            await client.send_all(b"\x16\x03\x01")
        await settled()
        answers = [await client.receive_some() for client in clients]
        assert sum(answer.startswith(b"HTTP/1.1 400 ") for answer in answers) == MAX_REFUSALS
        assert answers.count(b"") == 5
        assert bench.dropped("bad_request") == MAX_REFUSALS + 5
