"""WebSocket: snapshot and stream, without a gap."""

from __future__ import annotations

import random

import pytest
import trio

from tests.contract.websocket.boards import seen, sent
from tests.contract.websocket.greatest import greatest
from tests.kit.expected import POSITION
from tests.kit.outsider import Json, Place, fix, iso, now_ms

pytestmark = pytest.mark.live


async def test_a_race_without_fixes_is_an_empty_snapshot(usual: Place) -> None:
    race = usual.race()
    async with usual.dashboard() as board:
        before = now_ms()
        snapshot = await board.data("subscribe_race", {"raceId": race}, reply="race_snapshot")
        assert set(snapshot) == {"raceId", "positions", "serverTime"}
        assert snapshot["raceId"] == race
        assert snapshot["positions"] == []
        assert iso(before) <= snapshot["serverTime"] <= iso(now_ms())


async def test_one_change_is_a_position_update_and_more_are_a_batch(usual: Place) -> None:
    race, start = usual.race(), now_ms()
    async with usual.dashboard() as board:
        assert await board.subscribe(race) == []
        await usual.publish(fix(race, "P1", start, latitude=-7.94561239))
        update = await board.receive()
        assert set(update) == {"event", "data"}
        assert update["event"] == "position_update"
        received = update["data"].pop("receivedAt")
        assert iso(start) <= received <= iso(now_ms())
        assert update["data"] == {
            "participantId": "P1",
            "raceId": race,
            "latitude": -7.9456124,
            "longitude": 112.6145,
            "timestamp": iso(start),
            "status": "moving",
            "stale": False,
        }
        several = [fix(race, who, start + i) for i, who in enumerate(("P1", "P2", "P1", "P1"), 1)]
        await usual.publish(several)
        batch = await board.receive()
        assert batch["event"] == "batch_position_update"
        assert set(batch["data"]) == {"raceId", "positions"}
        assert batch["data"]["raceId"] == race
        assert [seen(position) for position in batch["data"]["positions"]] == [sent(one) for one in several]
        assert all(set(position) == POSITION for position in batch["data"]["positions"])
        # An array of one change and what is no change: one update.
        await usual.publish([several[0], fix(race, "P2", start + 10), several[1]])
        update = await board.receive()
        assert (update["event"], seen(update["data"])) == ("position_update", ("P2", iso(start + 10), "moving"))
        await board.silent()


async def test_without_a_window_each_change_goes_out_alone(quick: Place) -> None:
    race, start = quick.race(), now_ms()
    several = [fix(race, who, start + i) for i, who in enumerate(("P1", "P2", "P1"))]
    async with quick.dashboard() as board:
        assert await board.subscribe(race) == []
        await quick.publish(several)
        updates = [await board.receive() for _ in several]
    assert [update["event"] for update in updates] == ["position_update"] * 3
    assert [seen(update["data"]) for update in updates] == [sent(one) for one in several]


async def test_only_greater_fixes_are_changes(usual: Place) -> None:
    """By timestamp, then status; the rest goes to history only."""
    race, start = usual.race(), now_ms()
    fixes = [
        fix(race, "P1", start, "stopped"),
        fix(race, "P1", start, "moving"),
        fix(race, "P1", start - 1, "disqualified"),
        fix(race, "P1", start, "finished"),
        fix(race, "P1", start, "stopped"),
        fix(race, "P1", start + 1, "moving"),
    ]
    changes, _ = greatest(fixes)
    assert len(changes) == 3
    async with usual.dashboard() as board:
        assert await board.subscribe(race) == []
        await usual.publish(*fixes)
        got: list[Json] = []
        while len(got) < 3:
            message = await board.receive()
            got += message["data"].get("positions", [message["data"]])
        assert [seen(position) for position in got] == [sent(one) for one in changes]
        await board.silent()
        with trio.fail_after(30):
            while len((await board.data("get_history", {"raceId": race}, reply="history"))["positions"]) < 5:
                await trio.sleep(0.05)  # one of the six was there before


async def test_of_equals_the_greater_id_is_live(usual: Place) -> None:
    """Whatever arrives first."""
    one, other, start = usual.race(), usual.race(), now_ms()
    places = [10 + i / 1000 for i in range(20)]
    await usual.stored(
        *(fix(one, "P1", start, latitude=place) for place in places),
        *(fix(other, "P1", start, latitude=place) for place in places[::-1]),
    )
    async with usual.dashboard() as board:
        history = await board.data("get_history", {"raceId": one}, reply="history")
        live = await board.subscribe(one)
        again = await board.data("get_history", {"raceId": other}, reply="history")
        live_again = await board.subscribe(other)
    # History of equal times is in the order of the ids.
    assert live[0]["latitude"] == history["positions"][-1]["latitude"]
    assert live_again[0]["latitude"] == again["positions"][-1]["latitude"]


async def test_subscribe_twice_is_a_new_snapshot_and_still_one_stream(usual: Place) -> None:
    race, start = usual.race(), now_ms()
    async with usual.dashboard() as board:
        assert await board.subscribe(race) == []
        await usual.publish(fix(race, "P1", start))
        await board.receive()
        for _ in range(2):
            assert [seen(position) for position in await board.subscribe(race)] == [("P1", iso(start), "moving")]
        await usual.publish(fix(race, "P1", start + 1))
        assert seen((await board.receive())["data"]) == ("P1", iso(start + 1), "moving")
        await board.silent()


async def test_nothing_comes_after_unsubscribing(usual: Place) -> None:
    race, other, start = usual.race(), usual.race(), now_ms()
    async with usual.dashboard() as board:
        await board.subscribe(race)
        await board.subscribe(other)
        await usual.publish([fix(race, f"P{i}", start) for i in range(100)])
        await board.say("unsubscribe_race", {"raceId": race}, id="bye")
        while (answer := await board.receive())["event"] != "race_unsubscribed":
            assert answer["event"] == "batch_position_update"
        assert answer == {"event": "race_unsubscribed", "data": {"raceId": race}, "id": "bye"}
        await usual.publish(fix(race, "P1", start + 1), fix(other, "P1", start + 1))
        update = await board.receive()
        assert update["data"]["raceId"] == other
        await board.silent()
        again = await board.ask("unsubscribe_race", {"raceId": race}, id=7)
        assert again == {"event": "race_unsubscribed", "data": {"raceId": race}, "id": 7}
        assert len(await board.subscribe(race)) == 100


async def follow(
    place: Place, race: str, after_s: float, last: Json, joined: list[str], told: list[tuple[list[Json], list[Json]]]
) -> None:
    """Subscribe after a while, which is noted; adds (snapshot, updates until the last change)."""
    await trio.sleep(after_s)
    async with place.dashboard() as board:
        positions = await board.subscribe(race)
        joined.append(race)
        updates: list[Json] = []
        while sent(last) not in [seen(position) for position in (updates[-1:] or positions)]:
            message = await board.receive()
            if message["event"] == "participant_stale":
                continue
            assert message["event"] in ("position_update", "batch_position_update"), message["event"]
            more = message["data"].get("positions", [message["data"]])
            assert len(more) == 1 or message["event"] == "batch_position_update"
            updates += more
        told.append((positions, updates))


async def test_snapshot_and_stream_leave_no_gap_under_load(usual: Place) -> None:
    await many_join_under_load(usual)


async def test_snapshot_and_stream_leave_no_gap_under_load_without_a_window(quick: Place) -> None:
    await many_join_under_load(quick)


async def many_join_under_load(place: Place) -> None:
    race, start, dice = place.race(), now_ms(), random.Random(4)
    fixes: list[Json] = []
    clock = dict.fromkeys((f"P{i:02}" for i in range(50)), start)
    while len(fixes) < 4999:
        who = dice.choice(sorted(clock))
        clock[who] += dice.choice((-3, 0, 1, 1, 1))
        fixes.append(fix(race, who, clock[who], dice.choice(("moving", "stopped"))))
    fixes.append(fix(race, "P00", clock["P00"] + 1000, "finished"))
    changes, live = greatest(fixes)
    joined: list[str] = []
    told: list[tuple[list[Json], list[Json]]] = []
    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(follow, place, race, 0, fixes[-1], joined, told)
            for _ in range(10):
                nursery.start_soon(follow, place, race, dice.uniform(0.1, 1.5), fixes[-1], joined, told)
            await trio.sleep(0.2)
            await place.publish(*fixes[:-500], pause_s=1.5)
            while len(joined) < 11:  # on a busy machine some come late
                await trio.sleep(0.02)
            await place.publish(*fixes[-500:])
    everything = [sent(one) for one in changes]
    assert len(told) == 11
    joined_under_way = 0
    for positions, updates in told:
        stream = [seen(position) for position in updates]
        assert stream == everything[len(everything) - len(stream) :]
        _, before = greatest(changes[: len(changes) - len(stream)])
        assert sorted(map(seen, positions)) == sorted(map(sent, before.values()))
        joined_under_way += 0 < len(stream) < len(everything)
    assert joined_under_way >= 5
    assert len(live) == 50
