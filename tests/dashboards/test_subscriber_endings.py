"""subscriber.py under a simulated clock: heartbeats, deadlines, endings."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from actors.dashboards.endings import End
from actors.dashboards.subscriber import LAST_WRITE_S, MAX_UNFINISHED_BYTES, Subscriber
from actors.http.access import Grant
from actors.settings.load import WsSettings
from actors.telemetry.metrics import Metrics
from tests.dashboards.subscriber_bench import FakeSocket, running, settled
from tests.kit.dashboards import FakeHistory, FakeRaces


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
        assert bench.endings == [End.NO_PONG]
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
        assert bench.endings == [End.FLOODING]


async def test_the_end_of_a_token(autojump_clock: trio.testing.MockClock) -> None:
    async with running(lifetime_s=60) as bench:
        await trio.sleep(59.9)
        assert bench.endings == []
        await trio.sleep(0.2)
        assert bench.endings == [End.TOKEN_EXPIRED]


async def test_flooding(autojump_clock: trio.testing.MockClock) -> None:
    async with running(WsSettings(max_requests_per_s=10)) as bench:
        for _ in range(100):
            bench.socket.ask_raw(b"binary")
            await trio.sleep(0.05)
        assert bench.endings == [End.FLOODING]


async def test_a_frame_too_large_in_bytes(autojump_clock: trio.testing.MockClock) -> None:
    async with running(WsSettings(max_message_bytes=100)) as bench:
        bench.socket.ask_raw("ü" * 51)
        await settled()
        assert bench.endings == [End.TOO_LARGE]


async def test_ending_lets_the_write_under_way_finish(autojump_clock: trio.testing.MockClock) -> None:
    async with running() as bench:
        bench.socket.writable = trio.Event()
        bench.socket.ask("list_races")
        await settled()
        bench.subscriber.end(End.SHUTTING_DOWN)
        bench.subscriber.end(End.SLOW)
        await trio.sleep(LAST_WRITE_S / 2)
        assert bench.endings == []
        bench.socket.writable.set()
        await settled()
        assert bench.endings == [End.SHUTTING_DOWN]
        assert not bench.socket.half_written


@pytest.mark.parametrize(
    ("code", "ending", "is_finished"),
    [
        (1002, End.PROTOCOL_ERROR, True),
        (1007, End.BAD_DATA, True),
        (1009, End.TOO_LARGE, True),
        (1006, End.GONE, False),
    ],
)
async def test_who_is_to_be_told_why_gets_the_write_under_way_whole(
    autojump_clock: trio.testing.MockClock, code: int, ending: End, is_finished: bool
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
        assert bench.endings == [ending]
        assert bench.socket.half_written is not is_finished


async def test_but_not_for_long(autojump_clock: trio.testing.MockClock) -> None:
    async with running() as bench:
        bench.socket.writable = trio.Event()
        bench.socket.ask("list_races")
        await settled()
        bench.subscriber.end(End.SHUTTING_DOWN)
        await trio.sleep(LAST_WRITE_S + 0.1)
        assert bench.endings == [End.SHUTTING_DOWN]
        assert bench.socket.half_written


async def test_flush_sends_what_was_pending(autojump_clock: trio.testing.MockClock) -> None:
    async with running() as bench:
        await bench.ask("subscribe_race", {"raceId": "R1"})
        bench.races.change("R1")
        bench.subscriber.end(End.SHUTTING_DOWN)
        await settled()
        assert len(bench.endings) == 1
        await bench.subscriber.flush()
        assert [event["event"] for event in bench.socket.take()] == ["position_update"]


async def test_an_end_before_the_start(autojump_clock: trio.testing.MockClock) -> None:
    subscriber = Subscriber(FakeSocket(), Grant(None), WsSettings(), FakeRaces(), FakeHistory(), Metrics())
    subscriber.end(End.SHUTTING_DOWN)
    subscriber.heartbeat()
    assert await subscriber.run() == End.SHUTTING_DOWN


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
        assert bench.endings == [End.GONE]
