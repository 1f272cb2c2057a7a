"""Live positions as a dashboard and as Redis hold them."""

from __future__ import annotations

import json
from typing import Any

import trio

from tests.kit.client import Json, dashboard
from tests.kit.daemon import Running
from tests.kit.station import Station


def snapshot(running: Running, *races: str) -> dict[str, dict[str, Json]]:
    """race -> participantId -> position, as a dashboard that subscribes now sees it."""

    async def look() -> dict[str, dict[str, Json]]:
        found = {}
        async with dashboard(running.port) as board:
            for race in races:
                await board.say("subscribe_race", {"raceId": race}, id=race)
                answer = await board.until(lambda message: "id" in message)
                assert (answer["event"], answer["id"]) == ("race_snapshot", race), answer
                found[race] = {position["participantId"]: position for position in answer["data"]["positions"]}
        return found

    return trio.run(look)


def last(race: str, participant: str) -> str:
    return f"race:{race}:participant:{participant}:last"


def cached(at: Station, race: str, participant: str) -> dict[str, Any]:
    value: dict[str, Any] = json.loads(str(at.cache.get(last(race, participant)) or "{}"))
    return value


def seen(at: Station, race: str) -> dict[str, float]:
    scores: Any = at.cache.zrange(f"race:{race}:seen", 0, -1, withscores=True)
    return {str(name): float(score) for name, score in scores}
