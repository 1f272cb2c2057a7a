"""subscriber.py under a simulated clock: order and bounds."""

from __future__ import annotations

from unittest import mock

import pytest
import trio
import trio.testing

from actors.core.errors import StoreMisconfigured, StoreUnavailable
from actors.core.position import position_json
from actors.dashboards import deflate, frames
from actors.dashboards.endings import End
from actors.dashboards.outbox import RESYNC_INTERVAL_S
from actors.dashboards.subscriber import MAX_REPLIES, MAX_WAITING, SEND_BYTES, SNAPSHOT_WAIT_S
from actors.history.queries import HistoryPage
from actors.settings.load import WsSettings
from tests.dashboards.subscriber_bench import running, settled
from tests.kit.dashboards import make_fix
from tests.kit.websocket import DEFLATED


async def test_leaving_unsubscribes_everywhere(autojump_clock: trio.testing.MockClock) -> None:
    async with running() as bench:
        await bench.ask("subscribe_race", {"raceId": "R1"})
        await bench.ask("subscribe_race", {"raceId": "R2"})
        bench.socket.leave()
        await settled()
        assert bench.endings == [End.GONE]
        assert bench.races.calls[-2:] == [("unsubscribe", "R1"), ("unsubscribe", "R2")]


async def test_a_dashboard_that_takes_compressed_frames(autojump_clock: trio.testing.MockClock) -> None:
    async with running(deflated=True) as bench:
        bench.races.positions = b",".join([position_json(make_fix(), stale=False)] * 10)
        bench.socket.ask("subscribe_race", {"raceId": "R1"})
        await settled()
        bench.races.change("R1")
        await settled()
        assert all(frame[0] & DEFLATED for frame in bench.socket.sent)
        assert [event["event"] for event in bench.socket.take()] == ["race_snapshot", "position_update"]


async def test_a_large_answer_is_compressed_in_turns(autojump_clock: trio.testing.MockClock) -> None:
    """No step of more than one slice: what runs beside it sees all of them."""
    async with running(deflated=True) as bench:
        fixes = tuple(make_fix(f"P{number:04}") for number in range(8000))
        bench.history.pages = [HistoryPage(fixes, None)]
        seen: list[int] = []
        done = trio.Event()

        def blocks(data: bytes) -> bytes:
            seen.append(len(data))
            return deflate.blocks(data)

        async def look_on() -> None:
            looked = 0
            while not done.is_set():
                assert len(seen) - looked <= 2, "the last two are one step"
                looked = len(seen)
                await trio.lowlevel.checkpoint()

        with mock.patch.object(frames, "blocks", blocks):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(look_on)
                bench.socket.ask("get_history", {"raceId": "R1", "limit": 8000})
                while not bench.socket.sent:
                    await trio.lowlevel.checkpoint()
                done.set()
        assert len(seen) > 5
        assert max(seen) == frames.SLICE_BYTES
        [answer] = bench.socket.take()
        assert len(answer["data"]["positions"]) == 8000


async def test_a_race_that_refuses(autojump_clock: trio.testing.MockClock) -> None:
    async with running() as bench:
        bench.races.refusing = True
        [refusal] = await bench.ask("subscribe_race", {"raceId": "R1"}, id=5)
        assert (refusal["event"], refusal["data"]["code"], refusal["id"]) == ("error", "unavailable", 5)
        assert not bench.subscriber.outbox.subscribed("R1")


@pytest.mark.parametrize("trouble", [StoreUnavailable("away"), StoreMisconfigured("no table")])
async def test_a_history_that_cannot_be_read(autojump_clock: trio.testing.MockClock, trouble: Exception) -> None:
    async with running() as bench:
        bench.history.trouble = trouble
        for event in ("get_history", "list_races"):
            [answer] = await bench.ask(event, {"raceId": "R1"})
            assert (answer["event"], answer["data"]["code"]) == ("error", "unavailable")
        [snapshot] = await bench.ask("subscribe_race", {"raceId": "R1"})
        assert snapshot["event"] == "race_snapshot"


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
        assert bench.endings == [End.SLOW]


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
