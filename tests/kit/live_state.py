"""Live positions as a dashboard and as Redis hold them."""

from __future__ import annotations

import json
from typing import Any

import trio
from trio_websocket import open_websocket_url

from tests.kit.daemon import Dashboard
from tests.kit.station import Running, Station
from tests.kit.tokens import token


def snapshot(running: Running, *races: str) -> dict[str, dict[str, dict[str, Any]]]:
    """race -> participantId -> position, as a dashboard that subscribes now sees it."""

    async def look() -> list[dict[str, Any]]:
        url = f"ws://127.0.0.1:{running.port}/tracking?token={token()}"
        async with open_websocket_url(url) as ws, trio.open_nursery() as nursery:
            board = Dashboard(ws)
            nursery.start_soon(board.listen)
            for race in races:
                await board.say("subscribe_race", {"raceId": race})
            await board.until(lambda: len(board.snapshots) == len(races))
            nursery.cancel_scope.cancel()
        return board.snapshots

    found = trio.run(look)
    return {
        one["data"]["raceId"]: {position["participantId"]: position for position in one["data"]["positions"]}
        for one in found
    }


def last(race: str, participant: str) -> str:
    return f"race:{race}:participant:{participant}:last"


def cached(at: Station, race: str, participant: str) -> dict[str, Any]:
    value: dict[str, Any] = json.loads(str(at.cache.get(last(race, participant)) or "{}"))
    return value


def seen(at: Station, race: str) -> dict[str, float]:
    scores: Any = at.cache.zrange(f"race:{race}:seen", 0, -1, withscores=True)
    return {str(name): float(score) for name, score in scores}
