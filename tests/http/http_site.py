"""The HTTP application as ASGI in memory, with everything around it faked."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import attrs
import trio
import trio.testing
from starlette.applications import Starlette
from starlette.types import Message

from actors.core.fix import Fix
from actors.core.position import position_json
from actors.history.queries import HistoryPage, HistoryQuery, RaceSummary, StoredRejection
from actors.http.access import BadToken, Grant
from actors.http.api import build_app
from actors.settings.load import Settings
from actors.telemetry.health import Health
from actors.telemetry.metrics import Metrics
from tests.kit.described import check_http
from tests.kit.making import BASE_MS, make_fix

NOW_MS = BASE_MS + 5_000
BEARER = {"authorization": "Bearer all"}


@attrs.define
class FakeAccess:
    """Tokens `all` and `one` (race R1 only); `off` lets everybody in."""

    off: bool = False

    def verify(self, token: str | None, now_s: float) -> Grant:
        assert now_s == NOW_MS / 1000
        if self.off or token == "all":
            return Grant(races=None)
        if token == "one":
            return Grant(races=("R1",))
        raise BadToken("a token is needed")


@attrs.define
class ScriptedHistory:
    """Notes what it was asked, answers from fields, and can be told to fail."""

    fixes: list[Fix] = attrs.field(factory=list)
    next: tuple[int, bytes] | None = None
    trouble: Exception | None = None
    cut_after: int | None = None  # chunks of a stream before `trouble`
    asked: list[Any] = attrs.field(factory=list)
    open_streams: int = 0
    by_participant: bool | None = None  # of the last stream
    gate: trio.Event | None = None  # a stream waits for it before its second chunk

    async def newest(self, race_id: str, max_clock_skew_ms: int) -> list[Fix]:
        raise AssertionError("HTTP asks the directory for live positions")

    async def races(self, allowed: Sequence[str] | None = None, limit: int = 1000) -> list[RaceSummary]:
        self._note(allowed)
        return [RaceSummary("R1", 2, BASE_MS)]

    async def history(self, query: HistoryQuery) -> HistoryPage:
        self._note(query)
        return HistoryPage(tuple(self.fixes), self.next)

    @asynccontextmanager
    async def stream(
        self, query: HistoryQuery, by_participant: bool = False
    ) -> AsyncIterator[AsyncIterator[list[Fix]]]:
        self.asked.append(query)
        self.by_participant = by_participant
        if self.trouble is not None and self.cut_after is None:
            raise self.trouble
        self.open_streams += 1
        try:
            yield Chunks(self)
        finally:
            self.open_streams -= 1

    async def rejections(
        self, *, race_id: str | None = None, code: str | None = None, limit: int = 100
    ) -> list[StoredRejection]:
        self._note((race_id, code, limit))
        return [StoredRejection(bytes(16), BASE_MS, "tracking/x/position", b"\xff{", "bad_encoding", "not UTF-8")]

    def _note(self, question: object) -> None:
        self.asked.append(question)
        if self.trouble is not None:
            raise self.trouble


@attrs.define
class Chunks:
    """One fix a chunk."""

    history: ScriptedHistory
    sent: int = 0

    def __aiter__(self) -> Chunks:
        return self

    async def __anext__(self) -> list[Fix]:
        await trio.lowlevel.checkpoint()
        if self.history.trouble is not None and self.sent == self.history.cut_after:
            raise self.history.trouble
        if self.sent == len(self.history.fixes):
            raise StopAsyncIteration
        if self.sent == 1 and self.history.gate is not None:
            await self.history.gate.wait()
        self.sent += 1
        return [self.history.fixes[self.sent - 1]]


class FakeRaces:
    """R1 has two participants; three other races are parked."""

    def parked(self) -> int:
        return 3

    async def positions(self, race_id: str) -> bytes:
        if race_id != "R1":
            return b""
        return b",".join((position_json(make_fix("P1"), True), position_json(make_fix("P2"), False)))


@attrs.frozen
class Answer:
    """A whole response."""

    status: int
    headers: dict[str, str]
    body: bytes
    whole: bool  # False: it ended without its last piece

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> str:
        error = self.json["error"]
        assert set(error) == {"code", "message"}
        assert error["message"]
        return str(error["code"])


@attrs.define
class Site:
    """The application with everything around it that a test may change."""

    settings: Settings = attrs.field(factory=Settings)
    access: FakeAccess = attrs.field(factory=FakeAccess)
    history: ScriptedHistory = attrs.field(factory=ScriptedHistory)
    metrics: Metrics = attrs.field(factory=Metrics)
    health: Health = attrs.field(init=False)
    _app: Starlette | None = None

    def __attrs_post_init__(self) -> None:
        self.health = Health(self.metrics)

    def with_ws(self, **values: Any) -> Site:
        self.settings = attrs.evolve(self.settings, ws=attrs.evolve(self.settings.ws, **values))
        return self

    def with_page(self, **values: Any) -> Site:
        self.settings = attrs.evolve(self.settings, page=attrs.evolve(self.settings.page, **values))
        return self

    @property
    def app(self) -> Starlette:
        if self._app is None:
            self._app = build_app(
                settings=self.settings,
                access=self.access,
                history=self.history,
                races_live=FakeRaces(),
                health=self.health,
                metrics=self.metrics,
                clock=lambda: NOW_MS,
            )
        return self._app

    async def get(self, target: str, headers: dict[str, str] | None = None, method: str = "GET") -> Answer:
        """One request; the client stays until the answer has ended."""
        sent: list[Message] = []
        await self.app(scope(target, headers, method), Incoming().receive, partial(note, sent))
        start, *pieces = sent
        names = [name for name, _ in start["headers"]]
        assert len(names) == len(set(names)), names
        answer = Answer(
            start["status"],
            {name.decode(): value.decode() for name, value in start["headers"]},
            b"".join(piece.get("body", b"") for piece in pieces),
            bool(pieces) and not pieces[-1].get("more_body", False),
        )
        if answer.whole:
            check_http(method, target, answer.status, answer.headers, answer.body)
        return answer


@attrs.define
class Incoming:
    """What an ASGI server gives: the body, then nothing until the client leaves."""

    body: list[bytes] = attrs.field(factory=lambda: [b""])
    left: trio.Event = attrs.field(factory=trio.Event)

    async def receive(self) -> dict[str, Any]:
        await trio.lowlevel.checkpoint()
        if self.body:
            piece = self.body.pop(0)
            return {"type": "http.request", "body": piece, "more_body": bool(self.body)}
        await self.left.wait()
        return {"type": "http.disconnect"}


def scope(target: str, headers: dict[str, str] | None = None, method: str = "GET") -> dict[str, Any]:
    path, _, query = target.partition("?")
    lines = {"host": "127.0.0.1:3000", **(headers or {})}
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.1"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": "never looked at",
        "raw_path": path.encode("ascii"),
        "query_string": query.encode("ascii"),
        "root_path": "",
        "headers": [(name.encode(), value.encode()) for name, value in lines.items()],
        "client": None,
        "server": None,
    }


async def note(sent: list[Message], message: Message) -> None:
    await trio.lowlevel.checkpoint()
    sent.append(message)


API = ["/api/races", "/api/races/R1/positions", "/api/races/R1/history", "/api/races/R1/export", "/api/rejections"]
