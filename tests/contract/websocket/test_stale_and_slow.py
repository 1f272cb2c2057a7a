"""WebSocket: who becomes stale, and dashboards that fall behind."""

from __future__ import annotations

import itertools
import time
from datetime import datetime, timedelta

import pytest

from tests.contract.websocket.boards import SLOW_MS, THRESHOLD_MS, seen, sent
from tests.kit.client import Dashboard
from tests.kit.outsider import Json, Place, fix, iso, now_ms
from tests.kit.tokens import token

pytestmark = pytest.mark.live
AHEAD_MS = 2000  # of the clock: so much more time before it is stale, for a busy machine


async def test_stale_is_told_once_and_snapshots_agree(quick: Place) -> None:
    race, start = quick.race(), now_ms()
    old = start - 60_000
    await quick.stored(
        fix(race, "old", old), fix(race, "done", old, "finished"), fix(race, "out", old, "disqualified"),
        fix(race, "moves", now_ms() + AHEAD_MS), fix(race, "stands", now_ms() + AHEAD_MS, "stopped"),
    )  # fmt: skip
    async with quick.dashboard() as early, quick.dashboard() as second:
        fresh = {"old": True, "done": False, "out": False, "moves": False, "stands": False}
        gone = fresh | {"moves": True, "stands": True}
        for board in (early, second):
            positions = await board.subscribe(race)
            assert {position["participantId"]: position["stale"] for position in positions} == fresh
        last = {position["participantId"]: position["timestamp"] for position in positions}
        for board in (early, second):
            events = [await board.receive() for _ in range(2)]
            assert {event["event"] for event in events} == {"participant_stale"}
            found = sorted((event["data"] for event in events), key=lambda data: data["participantId"])
            expected = [{"raceId": race, "participantId": p, "lastTimestamp": last[p]} for p in ("moves", "stands")]
            assert found == expected
        assert now_ms() - start >= THRESHOLD_MS
        await early.silent()
        async with quick.dashboard() as late:
            for board in (early, late):
                positions = await board.subscribe(race)
                assert {position["participantId"]: position["stale"] for position in positions} == gone
            answer = await quick.request(f"/api/races/{race}/positions", token=token())
            assert {position["participantId"]: position["stale"] for position in answer.json["positions"]} == gone
            await late.silent()
        history = await early.data("get_history", {"raceId": race}, reply="history")
        assert [position["stale"] for position in history["positions"]] == [False] * 5
        # Back, and gone again.
        again = now_ms() + AHEAD_MS
        await quick.publish(fix(race, "moves", again))
        update = await early.receive()
        assert (update["event"], update["data"]["stale"]) == ("position_update", False)
        event = await early.receive()
        assert event["event"] == "participant_stale"
        assert event["data"] == {"raceId": race, "participantId": "moves", "lastTimestamp": iso(again)}
        # Late, and greater than what was live: stale already, so nothing is to be told but the change.
        await quick.publish(fix(race, "old", old + 1000))
        update = await early.receive()
        assert (update["event"], update["data"]["stale"]) == ("position_update", True)
        await early.silent()


async def test_one_that_never_reads_is_dropped_and_nobody_waits_for_it(quick: Place) -> None:
    race, crowd = quick.race(), quick.race()
    await quick.stored(*[fix(crowd, f"P{i}-{'x' * 40}", now_ms()) for i in range(500)])
    dropped = await quick.metric("ws_dropped_total", reason="slow")
    async with quick.dashboard(receive_bytes=4096) as slow, quick.dashboard() as quiet:
        await quiet.subscribe(race)
        for i in range(60):  # replies are never dropped: 8 MB, beyond what the kernel takes
            await slow.say("subscribe_race", {"raceId": crowd}, id=i)
        slowest, start = 0.0, time.monotonic()
        while await quick.metric("ws_dropped_total", reason="slow") == dropped:
            asked = time.monotonic()
            await quick.publish(fix(race, "P1", now_ms()))
            while (await quiet.receive())["event"] != "position_update":
                pass
            slowest = max(slowest, time.monotonic() - asked)
            assert time.monotonic() - start < 60
        assert time.monotonic() - start >= SLOW_MS / 1000
        assert slowest < SLOW_MS / 1000
        assert await slow.closed() is None  # no close frame


async def converge(board: Dashboard, last: Json) -> tuple[dict[str, Json], list[str]]:
    """Read until this fix: (live positions, serverTime of the resyncs). Nothing may go back."""
    live: dict[str, Json] = {}
    resyncs: list[str] = []
    while live.get(last["participant_id"], {}).get("timestamp") != last["timestamp"]:
        message = await board.receive()
        data = message["data"]
        if message["event"] == "race_snapshot":
            assert set(data) == {"raceId", "positions", "serverTime", "resync"}
            assert data["resync"] is True
            assert "id" not in message
            resyncs.append(data["serverTime"])
            found = {position["participantId"]: position for position in data["positions"]}
            assert all(found[who]["timestamp"] >= held["timestamp"] for who, held in live.items())
            live = found
        elif message["event"] == "position_update":
            held = live.get(data["participantId"])
            assert held is None or held["timestamp"] < data["timestamp"]
            live[data["participantId"]] = data
    return live, resyncs


async def test_one_that_reads_late_is_resynced_and_ends_converged(quick: Place) -> None:
    race, start = quick.race(), now_ms()
    last = fix(race, "the-last", start + 10_000, "finished")
    async with quick.dashboard(receive_bytes=4096) as late:
        await late.subscribe(race)
        resyncs_before = await quick.metric("ws_resyncs_total")
        # Far more than the kernel holds for one connection; it waits for less than send_timeout_ms.
        taken = await quick.metric("fixes_received_total")
        await quick.publish(*[crowd(race, start + i) for i in range(12)], last)
        await quick.until_metric("fixes_received_total", lambda value: value >= taken + 12 * 900 + 1)
        live, resyncs = await converge(late, last)
        assert resyncs
        times = [datetime.fromisoformat(text) for text in resyncs]
        assert all(after - before > timedelta(seconds=4.9) for before, after in itertools.pairwise(times))
        assert await quick.metric("ws_resyncs_total") >= resyncs_before + len(resyncs)
        async with quick.dashboard() as fresh:
            expected = await fresh.subscribe(race)
        assert sorted(map(seen, live.values())) == sorted(map(seen, expected))
        assert len(expected) == 901
        # And it goes on as ever.
        again = fix(race, "the-last", start + 20_000, "finished")
        await quick.publish(again)
        while (message := await late.receive())["event"] == "participant_stale":
            pass
        assert (message["event"], seen(message["data"])) == ("position_update", sent(again))


def crowd(race: str, when_ms: int) -> list[Json]:
    return [fix(race, f"P{k}-{'x' * 40}", when_ms) for k in range(900)]
