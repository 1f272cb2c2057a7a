"""What a dashboard has to see of some fixes, worked out here."""

from __future__ import annotations

from collections.abc import Sequence

from tests.kit.outsider import Json

STATUSES = ("moving", "stopped", "finished", "disqualified")


def greatest(fixes: Sequence[Json]) -> tuple[list[Json], dict[str, Json]]:
    """What a dashboard has to see of these: the changes in order, and the end. No two of one participant may differ in
    their place alone: the order by id is not rebuilt here.
    """
    live: dict[str, Json] = {}
    changes: list[Json] = []
    for one in fixes:
        held = live.get(one["participant_id"])
        if held is None or _rank(one) > _rank(held):
            live[one["participant_id"]] = one
            changes.append(one)
    return changes, live


def _rank(one: Json) -> tuple[str, int]:
    return one["timestamp"], STATUSES.index(one["status"])
