"""Many dashboards in one process against a real daemon, and a race that gives them something to see."""

from __future__ import annotations

import json
import random
import socket
import time
from collections.abc import Mapping
from typing import Any, Self

import attrs
import trio

from tests.dashboards.hostile import request
from tests.dashboards.hostile_frames import PONG, frame, text
from tests.kit.dashboards import reset_on_close
from tests.kit.expected import fix, now_ms, utc
from tests.kit.raw_socket import RawSocket
from tests.kit.station import Station
from tests.kit.tokens import token

RETRY_S = 0.2

Change = tuple[str, str]
"""Participant and timestamp."""


class Viewer(RawSocket):
    """One dashboard."""

    @classmethod
    async def knock(cls, port: int, receive_bytes: int, lasts_s: int = 3600) -> tuple[Self, int]:
        """Try to open it once: the status."""
        plain = trio.socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        if receive_bytes:
            plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
        await plain.connect(("127.0.0.1", port))
        viewer = cls(trio.SocketStream(plain))
        return viewer, await viewer.open(request(Authorization=f"Bearer {token(exp=int(time.time()) + lasts_s)}"))

    async def vanish(self) -> None:
        """RST, unless it is gone already."""
        assert isinstance(self.stream, trio.SocketStream)
        if self.stream.socket.fileno() >= 0:
            reset_on_close(self.stream)
        await trio.aclose_forcefully(self.stream)

    async def ask(self, event: str, **data: object) -> None:
        await self.send(text(json.dumps({"event": event, "data": data}).encode()))

    async def read_some(self) -> None:
        """Take a little of what waits, for `event` to look at later."""
        await self._more()

    async def frame(self) -> tuple[int, bytes] | None:
        """As RawSocket; pings of the daemon are answered."""
        while (found := await super().frame()) is not None and found[0] == 0x89:
            await self.send(frame(PONG, found[1]))
        return found

    async def event(self, about: str = "") -> dict[str, Any]:
        """The next one, of this race if one is given."""
        while True:
            found = await self.frame()
            assert found is not None, "the daemon has closed"
            assert found[0] == 0x81, found
            event: dict[str, Any] = json.loads(found[1])
            if about in ("", event["data"].get("raceId")):
                return event

    async def subscribe(self, race: str) -> dict[str, str]:
        """What the snapshot shows."""
        await self.ask("subscribe_race", raceId=race)
        return snapshot(await self.event())


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
            viewer, status = await Viewer.knock(self.at.port, receive_bytes, lasts_s)
            self.viewers.append(viewer)
            if status == 101:
                return viewer
            # 0: of more refusals than are waited for at once, the close may overtake the answer.
            assert status in (0, 503), status
            await viewer.vanish()
            await trio.sleep(RETRY_S * random.uniform(0.5, 1.5))
