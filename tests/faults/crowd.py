"""Many dashboards in one process against a real daemon, and a race that gives them something to see."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

import attrs
import trio

from tests.kit.client import Dashboard, Json, connected, reset_on_close
from tests.kit.expected import fix, now_ms, utc
from tests.kit.station import Station
from tests.kit.tokens import token
from tests.kit.websocket import request

RETRY_S = 0.2

Change = tuple[str, str]
"""Participant and timestamp."""


class Viewer(Dashboard):
    """One dashboard."""

    async def vanish(self) -> None:
        """RST, unless it is gone already."""
        assert isinstance(self.stream, trio.SocketStream)
        if self.stream.socket.fileno() >= 0:
            reset_on_close(self.stream)
        await trio.aclose_forcefully(self.stream)

    async def event(self, about: str = "") -> Json:
        """The next one, of this race if one is given."""
        return await self.until(lambda event: about in ("", event["data"].get("raceId")))

    async def shown(self, race: str) -> dict[str, str]:
        """What the snapshot shows of the race that is subscribed to."""
        return dict(map(change, await self.subscribe(race)))


def snapshot(event: Mapping[str, Any]) -> dict[str, str]:
    """Participant -> timestamp."""
    assert event["event"] == "race_snapshot", event
    return dict(map(change, event["data"]["positions"]))


def changes(event: Mapping[str, Any]) -> list[Change]:
    """Of an update."""
    match event["event"]:
        case "position_update":
            return [change(event["data"])]
        case "batch_position_update":
            return [change(position) for position in event["data"]["positions"]]
    raise AssertionError(event)


def change(position: Mapping[str, Any]) -> Change:
    return position["participantId"], position["timestamp"]


@attrs.define(eq=False)
class RaceDay:
    """A race whose fixes are each newer than the one before: every dashboard has to see every one of them, in order."""

    at: Station
    race: str
    participants: int
    sent: list[Change] = attrs.field(factory=list)
    live: dict[str, str] = attrs.field(factory=dict)
    viewers: list[Viewer] = attrs.field(factory=list)  # that ever came
    _ms: int = 0

    async def round(self) -> None:
        """One fix of everybody, with the broker when this returns."""
        fixes = []
        for number in range(self.participants):
            self._ms = max(self._ms + 1, now_ms())
            fixes.append(fix(self.race, f"P{number}", self._ms))
            self.sent.append((f"P{number}", utc(self._ms)))
        self.live.update(self.sent[-self.participants :])
        await trio.to_thread.run_sync(self.at.send_all, [("tracking/x/position", one) for one in fixes])

    async def come(self, receive_bytes: int = 0, lasts_s: int = 3600) -> Viewer:
        """A dashboard that tries until it is let in. `receive_bytes` makes the kernel's buffer of it small.

        `lasts_s` is how long its token is good.
        """
        while True:
            viewer = Viewer(await connected(self.at.port, receive_bytes))
            self.viewers.append(viewer)
            status = await viewer.open(request(Authorization=f"Bearer {token(ttl_s=lasts_s)}"))
            if status == 101:
                return viewer
            # 0: of more refusals than are waited for at once, the close may overtake the answer.
            assert status in (0, 503), status
            await viewer.vanish()
            await trio.sleep(RETRY_S * random.uniform(0.5, 1.5))
