"""WebSocket: `list_races` and `get_history`."""

from __future__ import annotations

import json
import random

import pytest
import trio

from tests.kit.client import Dashboard
from tests.kit.expected import POSITION
from tests.kit.outside_world import without_postgres
from tests.kit.outsider import Json, Place, fix, iso, now_ms
from tests.kit.tokens import token

pytestmark = pytest.mark.live


async def test_list_races_newest_first(usual: Place) -> None:
    races, start = [usual.race() for _ in range(4)], now_ms()
    order = [races[2], races[0], races[3], races[1]]
    fixes = []
    for age, race in enumerate(order):
        fixes += [fix(race, f"P{i}", start - age * 1000 - i) for i in range(age + 1)]
    await usual.stored(*fixes)
    async with usual.dashboard(races) as board:
        listed = await board.data("list_races", reply="races")
        assert listed == {
            "races": [
                {"raceId": race, "participants": age + 1, "lastTimestamp": iso(start - age * 1000)}
                for age, race in enumerate(order)
            ]
        }
    async with usual.dashboard() as board:
        everything = (await board.data("list_races", reply="races"))["races"]
        assert {race["raceId"] for race in everything} >= set(races)
        assert [race["lastTimestamp"] for race in everything] == sorted(
            (race["lastTimestamp"] for race in everything), reverse=True
        )


async def page_through(board: Dashboard, race: str, **query: object) -> list[list[Json]]:
    """All pages."""
    pages, cursor = [], None
    while True:
        asked = {"raceId": race, **query, **({"cursor": cursor} if cursor else {})}
        answer = await board.data("get_history", asked, reply="history")
        assert set(answer) == {"positions", "nextCursor"}
        pages.append(answer["positions"])
        cursor = answer["nextCursor"]
        if cursor is None:
            return pages
        assert isinstance(cursor, str)
        assert len(pages) < 100


async def test_history_page_by_page_over_equal_times(quick: Place) -> None:
    race, start = quick.race(), now_ms() - 100_000
    fixes = [fix(race, f"P{i % 3}", start + (i // 12) * 1000, latitude=i / 10) for i in range(48)]
    await quick.stored(*random.Random(1).sample(fixes, len(fixes)))
    async with quick.dashboard([race]) as board:
        for limit in (1, 5, 12, 47, 48, 49, 10_000):
            pages = await page_through(board, race, limit=limit)
            whole = [position for page in pages for position in page]
            assert all(len(page) == limit for page in pages[:-1])
            assert all(set(position) == POSITION for position in whole)
            assert [position["timestamp"] for position in whole] == [one["timestamp"] for one in fixes]
            assert sorted(position["latitude"] for position in whole) == [one["latitude"] for one in fixes]
        assert len(await page_through(board, race)) == 1
        one = [position for page in await page_through(board, race, participantId="P1", limit=7) for position in page]
        assert [position["participantId"] for position in one] == ["P1"] * 16
        assert sorted(p["latitude"] for p in one) == [f["latitude"] for f in fixes if f["participant_id"] == "P1"]
        between = {"from": iso(start + 1000), "to": iso(start + 3000)}
        some = [position for page in await page_through(board, race, limit=5, **between) for position in page]
        assert [position["timestamp"] for position in some] == [one["timestamp"] for one in fixes[12:36]]
        assert await page_through(board, race, **{"from": iso(start), "to": iso(start)}) == [[]]
        assert await page_through(board, race, participantId="nobody") == [[]]
    async with quick.dashboard() as board:
        assert await page_through(board, quick.race()) == [[]]


LIMITS: tuple[object, ...] = (0, -1, 10_001, 1.5, "5", True, [], 10**30)
MOMENTS: tuple[object, ...] = (5, "", "yesterday", "2025-07-01", "2025-07-01T08:15:30", [], True)
CURSORS: tuple[object, ...] = ("", "garbage", "AAAA", 5, [], "x" * 1000, "\u0000")
IDS: tuple[object, ...] = (5, "", "a b", [], "x" * 51)


@pytest.mark.parametrize(
    "wrong",
    [
        *({"limit": limit} for limit in LIMITS),
        *({"from": moment} for moment in MOMENTS),
        {"to": "2025-02-30T00:00:00Z"},
        *({"cursor": cursor} for cursor in CURSORS),
        *({"participantId": who} for who in IDS),
    ],
)
async def test_history_with_wrong_parameters(usual: Place, wrong: Json) -> None:
    async with usual.dashboard() as board:
        message = {"event": "get_history", "data": {"raceId": "R1", **wrong}, "id": "h"}
        assert await board.refused(message) == ("bad_request", "h")
        await board.silent()


async def test_unavailable_while_postgres_is_away_and_live_goes_on(quick: Place) -> None:
    race, start = quick.race(), now_ms()
    async with quick.dashboard() as board:
        await quick.stored(fix(race, "P1", start))
        assert len(await board.subscribe(race)) == 1
        async with without_postgres(quick):
            for event in ("get_history", "list_races"):
                assert await board.refused({"event": event, "data": {"raceId": race}, "id": 1}) == ("unavailable", 1)
            for path in ("/api/races", f"/api/races/{race}/history", f"/api/races/{race}/export?format=csv"):
                (await quick.request(path, token=token())).error(503)
            (await quick.request("/api/rejections", token=token())).error(503)
            await quick.publish(fix(race, "P1", now_ms()))
            while (message := await board.receive())["event"] == "participant_stale":
                pass
            assert message["event"] == "position_update"
            assert len(await board.subscribe(race)) == 1
            assert (await quick.request(f"/api/races/{race}/positions", token=token())).status == 200
            assert (await quick.request("/readyz")).status == 200
            components = (await quick.request("/readyz/ingest")).json
            assert "postgres" in json.dumps(components)
        with trio.fail_after(60):
            while True:
                answer = await board.ask("get_history", {"raceId": race}, id=2)
                if answer["event"] == "history" and len(answer["data"]["positions"]) == 2:
                    break
                await trio.sleep(0.05)
