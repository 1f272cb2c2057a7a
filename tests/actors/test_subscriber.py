"""subscriber.py under a simulated clock: order, bounds, deadlines, endings."""

from __future__ import annotations

import json
import math
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import attrs
import pytest
import trio
import trio.testing

from actors.access import Grant
from actors.core.outbox import RESYNC_INTERVAL_S
from actors.core.queries import HistoryPage
from actors.drivers.websocket import Closed
from actors.errors import CloseCode
from actors.metrics import Metrics
from actors.settings import WsSettings
from actors.subscriber import (
    GONE,
    LAST_WRITE_S,
    MAX_REPLIES,
    MAX_UNFINISHED_BYTES,
    MAX_WAITING,
    SEND_BYTES,
    SNAPSHOT_WAIT_S,
    Ending,
    Subscriber,
)
from tests.dashboards import FakeHistory, FakeRaces, make_fix

settled = trio.testing.wait_all_tasks_blocked


class FakeSocket:
    """A WebSocket whose other side is the test."""

    def __init__(self) -> None:
        self._to_server, self._from_client = trio.open_memory_channel[str | bytes](math.inf)
        self.sent: list[bytes] = []
        self.writable = trio.Event()  # while not set, sends hang
        self.writable.set()
        self.ponging = True
        self.pings = 0
        self.half_written = False
        self.broken = False
        self.closed_with = 1000
        self.unfinished_bytes = 0
        self.ready = False
        self.room = 10**9  # frames that write_now takes
        self.left_over: list[bytes] = []

    @property
    def unsent(self) -> bool:
        return bool(self.left_over)

    def write_now(self, frames: Sequence[bytes]) -> None:
        assert self.ready
        self.sent.extend(frames[: self.room])
        self.left_over = list(frames[self.room :])

    async def receive(self) -> str | bytes:
        try:
            return await self._from_client.receive()
        except trio.EndOfChannel:
            raise Closed(self.closed_with) from None

    async def send(self, frames: Sequence[bytes], timeout_s: float) -> None:
        if self.broken:
            await trio.lowlevel.checkpoint()
            raise Closed
        self.half_written = True
        with trio.fail_after(timeout_s):
            await self.writable.wait()
        self.half_written = False
        self.sent.extend((*self.left_over, *frames))
        self.left_over = []

    async def ping(self) -> None:
        self.pings += 1
        await trio.lowlevel.checkpoint()
        if not self.ponging:
            await trio.sleep_forever()

    # --- the client's side ---

    def ask(self, event: str, data: object = None, **more: object) -> None:
        self.ask_raw(json.dumps({"event": event, "data": data or {}, **more}))

    def ask_raw(self, message: str | bytes) -> None:
        self._to_server.send_nowait(message)

    def leave(self) -> None:
        self._to_server.close()

    def take(self) -> list[dict[str, Any]]:
        """Events sent since the last call."""
        frames, self.sent = self.sent, []
        return [json.loads(frame[frame.index(b"{") :]) for frame in frames]


@attrs.define(eq=False)
class Bench:
    """A subscriber that runs."""

    subscriber: Subscriber
    socket: FakeSocket
    races: FakeRaces
    history: FakeHistory
    metrics: Metrics
    endings: list[Ending] = attrs.field(factory=list)

    async def ask(self, event: str, data: object = None, **more: object) -> list[dict[str, Any]]:
        self.socket.ask(event, data, **more)
        await settled()
        return self.socket.take()


@asynccontextmanager
async def running(
    settings: WsSettings | None = None, grant: Grant | None = None, lifetime_s: float = math.inf
) -> AsyncIterator[Bench]:
    socket, races, history, metrics = FakeSocket(), FakeRaces(), FakeHistory(), Metrics()
    subscriber = Subscriber(
        socket, grant or Grant(None), settings or WsSettings(), races, history, metrics, lifetime_s=lifetime_s
    )
    bench = Bench(subscriber, socket, races, history, metrics)
    async with trio.open_nursery() as nursery:

        async def run() -> None:
            bench.endings.append(await subscriber.run())

        nursery.start_soon(run)
        await settled()
        yield bench
        socket.leave()


async def test_leaving_unsubscribes_everywhere(autojump_clock: trio.testing.MockClock) -> None:
    async with running() as bench:
        await bench.ask("subscribe_race", {"raceId": "R1"})
        await bench.ask("subscribe_race", {"raceId": "R2"})
        bench.socket.leave()
        await settled()
        assert bench.endings == [Ending(GONE)]
        assert bench.races.calls[-2:] == [("unsubscribe", "R1"), ("unsubscribe", "R2")]


async def test_a_race_that_never_answers(autojump_clock: trio.testing.MockClock) -> None:
    async with running() as bench:
        bench.races.silent = True
        assert await bench.ask("subscribe_race", {"raceId": "R1"}, id=1) == []
        assert await bench.ask("unsubscribe_race", {"raceId": "R2"}, id=2) == []
        await trio.sleep(SNAPSHOT_WAIT_S)
        await settled()
        refusal, later = bench.socket.take()
        assert (refusal["data"]["code"], refusal["id"]) == ("unavailable", 1)
        assert later["id"] == 2
        assert bench.races.calls == [("subscribe", "R1", 1, False), ("unsubscribe", "R1")]
        assert not bench.subscriber.outbox.subscribed("R1")


async def test_a_second_subscription_that_is_not_answered_leaves_the_first(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with running() as bench:
        await bench.ask("subscribe_race", {"raceId": "R1"})
        bench.races.silent = True
        bench.socket.ask("subscribe_race", {"raceId": "R1"})
        await trio.sleep(SNAPSHOT_WAIT_S + 1)
        assert bench.socket.take()[0]["event"] == "error"
        bench.races.change("R1")
        await settled()
        assert bench.socket.take()[0]["event"] == "position_update"


async def test_frames_that_wait_go_out_together_and_in_order(autojump_clock: trio.testing.MockClock) -> None:
    async with running() as bench:
        await bench.ask("subscribe_race", {"raceId": "R1"})
        names = [f"P{number}" for number in range(20)]
        for name in names:
            bench.races.change("R1", name)
        await settled()
        assert [event["data"]["participantId"] for event in bench.socket.take()] == names
        assert bench.metrics.registry.get_sample_value("tracking_ws_frames_total") == 21


async def test_one_big_reply_at_a_time(autojump_clock: trio.testing.MockClock) -> None:
    async with running() as bench:
        bench.history.pages = [HistoryPage((make_fix(),) * 1000, None)] * 3
        bench.socket.writable = trio.Event()
        for number in range(3):
            bench.socket.ask("get_history", {"raceId": "R1"}, id=number)
        await settled()
        assert len(bench.history.queries) == 1
        bench.socket.writable.set()
        await settled()
        assert [event["id"] for event in bench.socket.take()] == [0, 1, 2]


async def test_more_waiting_requests_than_allowed_are_refused(autojump_clock: trio.testing.MockClock) -> None:
    async with running(WsSettings(max_requests_per_s=1000)) as bench:
        bench.history.gate = trio.Event()
        for number in range(MAX_WAITING + 3):
            bench.socket.ask("get_history", {"raceId": "R1"}, id=number)
            await settled()
        refused = bench.socket.take()
        assert [(event["id"], event["data"]["code"]) for event in refused] == [
            (MAX_WAITING + 1, "rate_limited"),
            (MAX_WAITING + 2, "rate_limited"),
        ]
        bench.history.gate.set()
        await settled()
        assert [event["id"] for event in bench.socket.take()] == list(range(MAX_WAITING + 1))


async def test_replies_that_nobody_reads_stop_the_receiving(autojump_clock: trio.testing.MockClock) -> None:
    async with running(WsSettings(max_requests_per_s=100_000)) as bench:
        bench.socket.writable = trio.Event()
        for number in range(10 * MAX_REPLIES):
            bench.socket.ask("unsubscribe_race", {"raceId": "R1"}, id=number)
            if number % 10 == 0:
                await settled()
        assert bench.subscriber.outbox.replies <= MAX_REPLIES + MAX_WAITING
        bench.socket.writable.set()
        await settled()
        events = bench.socket.take()
        assert len(events) == 10 * MAX_REPLIES


async def test_too_slow_is_dropped_without_a_code(autojump_clock: trio.testing.MockClock) -> None:
    async with running(WsSettings(send_timeout_ms=2000)) as bench:
        bench.socket.writable = trio.Event()
        bench.socket.ask("list_races")
        await trio.sleep(1.9)
        assert bench.endings == []
        await trio.sleep(0.2)
        assert bench.endings == [Ending("slow")]


async def test_what_overflows_is_replaced_by_a_resync(autojump_clock: trio.testing.MockClock) -> None:
    async with running(WsSettings(outbox_bytes=3000)) as bench:
        await bench.ask("subscribe_race", {"raceId": "R1"})
        bench.socket.writable = trio.Event()
        bench.races.change("R1", "in flight")
        await settled()
        for number in range(30):
            bench.races.change("R1", f"P{number}")
        await settled()
        assert bench.races.calls == [("subscribe", "R1", None, False)]
        bench.socket.writable.set()
        await settled()
        update, resync = bench.socket.take()
        assert update["data"]["participantId"] == "in flight"
        assert resync["data"]["resync"] is True
        assert "id" not in resync
        bench.races.change("R1", padding=5000)
        await settled()
        assert bench.socket.take() == []
        await trio.sleep(RESYNC_INTERVAL_S)
        await settled()
        assert [event["event"] for event in bench.socket.take()] == ["race_snapshot"]
        assert bench.metrics.registry.get_sample_value("tracking_ws_resyncs_total") == 2


async def test_heartbeats_with_pongs(autojump_clock: trio.testing.MockClock) -> None:
    async with running() as bench:
        for count in range(1, 6):
            bench.subscriber.heartbeat()
            await settled()
            assert bench.socket.pings == count
        assert bench.endings == []


async def test_no_pong_for_two_heartbeats(autojump_clock: trio.testing.MockClock) -> None:
    async with running() as bench:
        bench.socket.ponging = False
        bench.subscriber.heartbeat()
        await settled()
        bench.subscriber.heartbeat()
        await settled()
        assert bench.endings == []
        assert bench.socket.pings == 1
        bench.subscriber.heartbeat()
        await settled()
        assert bench.endings == [Ending("no_pong")]
        bench.subscriber.heartbeat()  # after the end: nothing


async def test_bytes_without_end_that_are_no_message(autojump_clock: trio.testing.MockClock) -> None:
    async with running() as bench:
        bench.socket.unfinished_bytes = MAX_UNFINISHED_BYTES
        bench.subscriber.heartbeat()
        await settled()
        assert bench.endings == []
        bench.socket.unfinished_bytes += 1
        bench.subscriber.heartbeat()
        await settled()
        assert bench.endings == [Ending("flooding", CloseCode.POLICY_VIOLATION)]


async def test_the_end_of_a_token(autojump_clock: trio.testing.MockClock) -> None:
    async with running(lifetime_s=60) as bench:
        await trio.sleep(59.9)
        assert bench.endings == []
        await trio.sleep(0.2)
        assert bench.endings == [Ending("token_expired", CloseCode.TOKEN_EXPIRED)]


async def test_flooding(autojump_clock: trio.testing.MockClock) -> None:
    async with running(WsSettings(max_requests_per_s=10)) as bench:
        for _ in range(100):
            bench.socket.ask_raw(b"binary")
            await trio.sleep(0.05)
        assert bench.endings == [Ending("flooding", CloseCode.POLICY_VIOLATION)]


async def test_a_frame_too_large_in_bytes(autojump_clock: trio.testing.MockClock) -> None:
    async with running(WsSettings(max_message_bytes=100)) as bench:
        bench.socket.ask_raw("ü" * 51)
        await settled()
        assert bench.endings == [Ending("too_large", CloseCode.MESSAGE_TOO_BIG)]


async def test_ending_lets_the_write_under_way_finish(autojump_clock: trio.testing.MockClock) -> None:
    async with running() as bench:
        bench.socket.writable = trio.Event()
        bench.socket.ask("list_races")
        await settled()
        bench.subscriber.end("shutting_down", CloseCode.GOING_AWAY)
        bench.subscriber.end("another reason")
        await trio.sleep(LAST_WRITE_S / 2)
        assert bench.endings == []
        bench.socket.writable.set()
        await settled()
        assert bench.endings == [Ending("shutting_down", CloseCode.GOING_AWAY)]
        assert not bench.socket.half_written


@pytest.mark.parametrize(
    ("code", "ending", "is_finished"),
    [(1002, "protocol_error", True), (1007, "protocol_error", True), (1009, "too_large", True), (1006, GONE, False)],
)
async def test_who_is_to_be_told_why_gets_the_write_under_way_whole(
    autojump_clock: trio.testing.MockClock, code: int, ending: str, is_finished: bool
) -> None:
    async with running() as bench:
        bench.socket.writable = trio.Event()
        bench.socket.ask("list_races")
        await settled()
        bench.socket.closed_with = code
        bench.socket.leave()
        await settled()
        bench.socket.writable.set()
        await settled()
        assert bench.endings == [Ending(ending)]
        assert bench.socket.half_written is not is_finished


async def test_but_not_for_long(autojump_clock: trio.testing.MockClock) -> None:
    async with running() as bench:
        bench.socket.writable = trio.Event()
        bench.socket.ask("list_races")
        await settled()
        bench.subscriber.end("shutting_down", CloseCode.GOING_AWAY)
        await trio.sleep(LAST_WRITE_S + 0.1)
        assert bench.endings == [Ending("shutting_down", CloseCode.GOING_AWAY)]
        assert bench.socket.half_written


async def test_flush_sends_what_was_pending(autojump_clock: trio.testing.MockClock) -> None:
    async with running() as bench:
        await bench.ask("subscribe_race", {"raceId": "R1"})
        bench.races.change("R1")
        bench.subscriber.end("shutting_down", CloseCode.GOING_AWAY)
        await settled()
        assert len(bench.endings) == 1
        await bench.subscriber.flush()
        assert [event["event"] for event in bench.socket.take()] == ["position_update"]


async def test_an_end_before_the_start(autojump_clock: trio.testing.MockClock) -> None:
    subscriber = Subscriber(FakeSocket(), Grant(None), WsSettings(), FakeRaces(), FakeHistory(), Metrics())
    subscriber.end("shutting_down", CloseCode.GOING_AWAY)
    subscriber.heartbeat()
    assert await subscriber.run() == Ending("shutting_down", CloseCode.GOING_AWAY)


@pytest.mark.parametrize("request_event", ["list_races", "get_history"])
async def test_a_crash_is_raised_and_still_unsubscribes(
    autojump_clock: trio.testing.MockClock, request_event: str
) -> None:
    socket, races, history = FakeSocket(), FakeRaces(), FakeHistory()
    subscriber = Subscriber(socket, Grant(None), WsSettings(), races, history, Metrics())
    history.trouble = ZeroDivisionError("a bug")
    socket.ask("subscribe_race", {"raceId": "R1"})
    socket.ask(request_event, {"raceId": "R1"})
    with pytest.raises(ExceptionGroup) as crash:
        await subscriber.run()
    assert crash.group_contains(ZeroDivisionError)
    assert races.calls[-1] == ("unsubscribe", "R1")


async def test_a_closed_socket_while_writing_ends_it_once(autojump_clock: trio.testing.MockClock) -> None:
    async with running() as bench:
        bench.socket.broken = True
        bench.socket.ask("list_races")
        await settled()
        bench.socket.leave()
        await settled()
        assert bench.endings == [Ending(GONE)]


async def test_a_ready_socket_is_written_at_once_without_a_task(autojump_clock: trio.testing.MockClock) -> None:
    async with running() as bench:
        await bench.ask("subscribe_race", {"raceId": "R1"})
        bench.socket.ready = True
        bench.races.change("R1", "P7")
        assert [event["data"]["participantId"] for event in bench.socket.take()] == ["P7"]
        assert bench.metrics.registry.get_sample_value("tracking_ws_frames_total") == 2


async def test_what_the_socket_has_no_room_for_goes_out_first(autojump_clock: trio.testing.MockClock) -> None:
    async with running() as bench:
        await bench.ask("subscribe_race", {"raceId": "R1"})
        bench.socket.ready = True
        bench.socket.room = 0
        bench.races.change("R1", "P1")
        bench.socket.ready = False
        bench.races.change("R1", "P2")
        assert bench.socket.sent == []
        await settled()
        assert [event["data"]["participantId"] for event in bench.socket.take()] == ["P1", "P2"]


async def test_big_frames_are_left_to_the_writer(autojump_clock: trio.testing.MockClock) -> None:
    async with running() as bench:
        await bench.ask("subscribe_race", {"raceId": "R1"})
        bench.socket.ready = True
        bench.races.change("R1", padding=SEND_BYTES)
        assert bench.socket.sent == []
        await settled()
        assert len(bench.socket.take()) == 1


async def test_an_overflow_wakes_the_writer_for_the_resync(autojump_clock: trio.testing.MockClock) -> None:
    async with running(WsSettings(outbox_bytes=1000)) as bench:
        await bench.ask("subscribe_race", {"raceId": "R1"})
        bench.socket.ready = True
        bench.races.change("R1", padding=2000)
        await settled()
        assert bench.socket.take()[0]["data"]["resync"] is True
