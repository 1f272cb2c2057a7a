"""What a dashboard is told from history: the list of races, and pages of a race (api/asyncapi.json)."""

from __future__ import annotations

from actors.access import Grant
from actors.core import wire
from actors.core.cursor import encode_cursor
from actors.core.queries import History, RaceSummary
from actors.core.requests import GetHistory, ListRaces
from actors.core.timestamps import format_ms


async def answer(request: ListRaces | GetHistory, history: History, grant: Grant) -> bytes:
    """The event that answers; that the grant allows the race was checked. Raises Unavailable, StoreMisconfigured."""
    if isinstance(request, ListRaces):
        races = await history.races(grant.races)
        return wire.reply("races", {"races": [_summary(race) for race in races]}, request.request_id)
    page = await history.history(request.query)
    cursor = None if page.next is None else encode_cursor(page.next)
    # In history `stale` is always false.
    data = wire.history_data((wire.position_json(fix, stale=False) for fix in page.fixes), cursor)
    return wire.reply("history", data, request.request_id)


def _summary(race: RaceSummary) -> dict[str, object]:
    return {
        "raceId": race.race_id,
        "participants": race.participants,
        "lastTimestamp": format_ms(race.last_timestamp_ms),
    }
