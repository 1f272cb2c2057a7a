"""Everything that the AsyncAPI description has, provoked in one daemon: each frame is checked where it is received."""

from __future__ import annotations

import pytest

from tests.contract.websocket.boards import THRESHOLD_MS
from tests.kit.client import Dashboard
from tests.kit.described import websocket
from tests.kit.outside_world import World, sql_async, without_postgres
from tests.kit.outsider import Json, Place, fix, now_ms

pytestmark = pytest.mark.live


@pytest.fixture(scope="module")
def eventful(world: World) -> Place:
    """Stale soon, at a limit soon, behind soon."""
    return world.start(
        app={"stale_data_threshold_ms": THRESHOLD_MS},
        postgres={"spool": "no"},
        ws={"batch_window_ms": 50, "max_subscriptions": 2, "outbox_bytes": 65536, "send_timeout_ms": 20000},
    )


async def until(board: Dashboard, event: str, kinds: set[str]) -> Json:
    """Read to the first of this event; `kinds` takes what came, errors by their code."""
    while True:
        message = await board.receive()
        kinds.add(message["data"]["code"] if message["event"] == "error" else message["event"])
        if message["event"] == event:
            return message


async def test_all_of_it(eventful: Place) -> None:
    kinds: set[str] = set()
    await sql_async(eventful.database, "alter table tracking_positions add check (latitude < 80)")
    await _changes(eventful, kinds)
    await _errors(eventful, kinds)
    await _behind(eventful, kinds)
    document = websocket()
    sent = set(document["components"]["messages"]) - {"error", *asked_only(document)}
    assert kinds == sent | set(document["components"]["schemas"]["ErrorCode"]["enum"])


def asked_only(document: Json) -> set[str]:
    """What only dashboards send."""
    asked = [operation for operation in document["operations"].values() if operation["action"] == "receive"]
    return {message["$ref"].rpartition("/")[2] for operation in asked for message in operation["messages"]}


async def _changes(place: Place, kinds: set[str]) -> None:
    race = place.race()
    async with place.dashboard() as board:
        await board.say("subscribe_race", {"raceId": race}, id="x" * 64)
        await until(board, "race_snapshot", kinds)
        await place.publish(fix(race, "P1", now_ms()))
        await until(board, "position_update", kinds)
        await place.publish([fix(race, f"P{n}", now_ms()) for n in range(1, 5)])
        await until(board, "batch_position_update", kinds)
        await until(board, "participant_stale", kinds)
        start = now_ms()
        await place.stored(fix(race, "Zoë", start))
        # One that PostgreSQL refuses, beside one that it takes.
        await place.publish([fix(race, "Zoë", start + 1, latitude=85), fix(race, "P9", start + 1)])
        while not (data := (await until(board, "race_snapshot", kinds))["data"]).get("resync"):
            pass
        assert {one["participantId"]: one["latitude"] < 80 for one in data["positions"]}["Zoë"]
        await board.say("list_races", id=-(10**63))
        await until(board, "races", kinds)
        await board.say("get_history", {"raceId": race, "limit": 2}, id="")
        page = await until(board, "history", kinds)
        await board.say("get_history", {"raceId": race, "cursor": page["data"]["nextCursor"], "participantId": None})
        assert (await until(board, "history", kinds))["data"]["nextCursor"] is None
        await board.say("unsubscribe_race", {"raceId": race})
        await until(board, "race_unsubscribed", kinds)


async def _errors(place: Place, kinds: set[str]) -> None:
    async with place.dashboard(["R1"]) as board:
        for wrong in ("{", b"binary", {"event": "shout"}, {"event": "subscribe_race", "data": {"raceId": "R2"}}):
            await board.send(wrong)
            await until(board, "error", kinds)
    async with place.dashboard() as board:
        for number in range(3):
            await board.say("subscribe_race", {"raceId": f"R{number}"})
        await until(board, "error", kinds)
        async with without_postgres(place):
            await board.say("list_races")
            await until(board, "error", kinds)
        for number in range(80):
            await board.say("unsubscribe_race", {"raceId": "R1"}, id=number)
        await until(board, "error", kinds)


async def _behind(place: Place, kinds: set[str]) -> None:
    race, start = place.race(), now_ms()
    async with place.dashboard(receive_bytes=4096) as late:
        await late.subscribe(race)
        taken = await place.metric("fixes_received_total")
        crowds = [[fix(race, f"P{k}-{'x' * 40}", start + i) for k in range(900)] for i in range(12)]
        await place.publish(*crowds)
        await place.until_metric("fixes_received_total", lambda value: value >= taken + 12 * 900)
        assert (await until(late, "race_snapshot", kinds))["data"]["resync"] is True
