"""A dashboard on a thread: subscribes, comes back when its connection ends, keeps what it shows.

On one connection nothing may go backward, whatever fails behind it. A new connection begins with what its snapshots
say: live may have run ahead of history, and a daemon that was killed knows what is durable.
"""

from __future__ import annotations

import ssl
import threading
from collections.abc import Sequence
from types import TracebackType
from typing import Self

import attrs
import trio

from tests.kit.client import Closed, Dashboard, Json, Refused, dashboard
from tests.kit.websocket import OFFER

RETRY_S = 0.2
TURN_S = 0.2

Shown = dict[tuple[str, str], str]  # (race, participant) -> timestamp


@attrs.define(eq=False)
class Spectator:
    """Used as `with Spectator(port, races) as spectator:`."""

    port: int  # of the daemon, or of what stands before it
    races: Sequence[str]
    tls: ssl.SSLContext | None = None
    connected: int = 0  # times
    ends: list[int | None] = attrs.field(factory=list)  # close codes of connections that the daemon ended
    _shown: Shown = attrs.field(factory=dict)
    _snapshots: set[str] = attrs.field(factory=set)  # races that this connection has one of
    _backward: list[str] = attrs.field(factory=list)
    _ending: threading.Event = attrs.field(factory=threading.Event)
    _failure: BaseException | None = None
    _thread: threading.Thread = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, _error: object, _trace: TracebackType | None) -> None:
        self._ending.set()
        self._thread.join()
        if kind is None:
            self.shown()

    def shown(self) -> Shown:
        """What it shows now; raises when anything ever went backward on a connection."""
        if self._failure is not None:
            raise self._failure
        assert not self._backward, self._backward
        return dict(self._shown)

    # --- the thread ---

    def _run(self) -> None:
        try:
            trio.run(self._watch)
        except BaseException as failure:
            self._failure = failure
            raise

    async def _watch(self) -> None:
        while not self._ending.is_set():
            try:
                await self._connection()
            except (OSError, trio.BrokenResourceError, trio.TooSlowError, Refused):
                await trio.sleep(RETRY_S)
            except Closed as end:
                self.ends.append(end.code)
                await trio.sleep(RETRY_S)

    async def _connection(self) -> None:
        """One connection, to its end."""
        async with dashboard(self.port, OFFER, self.tls) as board:
            self.connected += 1
            self._snapshots.clear()
            for race in self.races:
                await board.say("subscribe_race", {"raceId": race}, id=race)
            while not self._ending.is_set():
                try:
                    message = await board.receive(TURN_S)
                except trio.TooSlowError:
                    continue
                await self._take(board, message)

    async def _take(self, board: Dashboard, message: Json) -> None:
        data = message["data"]
        match message["event"]:
            case "race_snapshot":
                self._snapshot(data)
            case "position_update":
                self._show(data)
            case "batch_position_update":
                for position in data["positions"]:
                    self._show(position)
            case "participant_stale":
                pass
            case "error" if data["code"] == "unavailable":
                await trio.sleep(RETRY_S)
                await board.say("subscribe_race", {"raceId": message["id"]}, id=message["id"])
            case other:
                raise AssertionError(f"{other}: {data}")

    def _snapshot(self, data: Json) -> None:
        race = data["raceId"]
        if race not in self._snapshots:
            self._snapshots.add(race)
            for key in [key for key in self._shown if key[0] == race]:
                del self._shown[key]
        for position in data["positions"]:
            self._show(position)

    def _show(self, position: Json) -> None:
        key, timestamp = (position["raceId"], position["participantId"]), position["timestamp"]
        before = self._shown.get(key, "")
        if timestamp < before:
            self._backward.append(f"{key} went from {before} back to {timestamp}")
        self._shown[key] = timestamp
