"""One dashboard.

Owns: its outbox, its subscriptions, its WebSocket while it is served.
Takes in: requests from the dashboard; frames that races put into the outbox.
Sends out: frames; Subscribe and Unsubscribe to races; questions to history.
A crash closes this dashboard with 1011 and nobody else notices; the dashboard connects again and loses nothing.
Stops by `end`: what is being written is finished, at most LAST_WRITE_S; the caller of `run` says goodbye.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Awaitable, Sequence
from typing import Protocol, assert_never

import attrs
import trio

from actors.core.errors import ErrorCode, StoreMisconfigured, Unavailable
from actors.dashboards import events
from actors.dashboards.endings import BY_LIBRARY, End
from actors.dashboards.frames import Frame, sliced
from actors.dashboards.outbox import Outbox
from actors.dashboards.rate import Rate, Verdict
from actors.dashboards.requests import (
    BadRequest,
    GetHistory,
    ListRaces,
    Request,
    SubscribeRace,
    UnsubscribeRace,
    parse_request,
)
from actors.dashboards.websocket import Closed
from actors.history.answers import list_races, one_page
from actors.history.queries import History
from actors.http.access import Grant
from actors.settings.load import WsSettings
from actors.telemetry.metrics import Metrics

SEND_BYTES = 64 * 1024  # frames of one dashboard that go out together
REPLY_BYTES = 16 * 1024  # no further request is handled while more of replies is pending: one big reply at a time
MAX_REPLIES = 100  # pending small replies, about 10 kB; beyond it nothing more is received
MAX_WAITING = 250  # requests waiting to be handled, some 100 kB: seconds of the usual rate; more are refused
MAX_UNFINISHED_BYTES = 4 * 1024 * 1024  # since the last message: years of pongs, or one in pieces without end, all kept
SNAPSHOT_WAIT_S = 30.0  # for a race to answer, which restores itself from the stores first
LAST_WRITE_S = 1.0  # for a frame that is half out when the dashboard has to go


class Socket(Protocol):
    """drivers.websocket.WebSocket."""

    @property
    def deflated(self) -> bool: ...
    async def receive(self) -> str | bytes: ...
    async def send(self, frames: Sequence[bytes], timeout_s: float) -> None: ...
    @property
    def ready(self) -> bool: ...
    def write_now(self, frames: Sequence[bytes]) -> None: ...
    @property
    def unsent(self) -> bool: ...
    @property
    def unfinished_bytes(self) -> int: ...
    async def ping(self) -> None: ...


class Races(Protocol):
    """The directory of races. Both calls post and return; the answer comes through the outbox."""

    def subscribe(
        self, race_id: str, outbox: Outbox, request_id: str | int | None = None, resync: bool = False
    ) -> None: ...
    def unsubscribe(self, race_id: str, outbox: Outbox) -> None: ...


@attrs.define(eq=False)
class Subscriber:
    """Serves one dashboard. `run` once."""

    socket: Socket
    grant: Grant
    settings: WsSettings
    races: Races
    history: History
    metrics: Metrics
    lifetime_s: float = math.inf  # of the token, from now
    outbox: Outbox = attrs.field(init=False)
    ending: End | None = attrs.field(init=False, default=None)  # the first reason to end
    _rate: Rate = attrs.field(init=False)
    _waiting: deque[Request | BadRequest] = attrs.field(init=False, factory=deque)  # at most MAX_WAITING
    _answering: bool = attrs.field(init=False, default=False)  # the task that answers is there
    _writer: trio.lowlevel.ParkingLot = attrs.field(init=False, factory=trio.lowlevel.ParkingLot)  # nothing to write
    _news: trio.lowlevel.ParkingLot = attrs.field(init=False, factory=trio.lowlevel.ParkingLot)  # outbox changed
    _nursery: trio.Nursery | None = attrs.field(init=False, default=None)  # while running
    _writing: trio.CancelScope | None = attrs.field(init=False, default=None)  # around the write under way
    _writing_bytes: int = attrs.field(init=False, default=0)
    _unanswered: int = attrs.field(init=False, default=0)  # heartbeats since the last pong

    def __attrs_post_init__(self) -> None:
        self.outbox = Outbox(self.settings.outbox_bytes, self._wake, self.socket.deflated)
        self._rate = Rate(self.settings.max_requests_per_s, trio.current_time())

    async def run(self) -> End:
        """Serve until the dashboard goes or has to go; returns how. Crashes are raised."""
        try:
            async with trio.open_nursery() as nursery:
                self._nursery = nursery
                if self.ending is None:
                    nursery.cancel_scope.deadline = trio.current_time() + self.lifetime_s
                    nursery.start_soon(self._write)
                    await self._receive()
        finally:
            self._nursery = None
            for race_id in self.outbox.forget_all():
                self.races.unsubscribe(race_id, self.outbox)
        return self.ending or End.TOKEN_EXPIRED

    def end(self, ending: End) -> None:
        """Make `run` return soon. Only the first call counts."""
        if self.ending is not None:
            return
        self.ending = ending
        if self._writing is not None:
            self._writing.deadline = trio.current_time() + (0 if ending.code is None else LAST_WRITE_S)
        if self._nursery is not None:
            self._nursery.cancel_scope.cancel()

    def heartbeat(self) -> None:
        """Called every heartbeat_s: send a ping; end when two of these times passed without a pong."""
        # A nursery that is being cancelled may be closed to new tasks before `run` gets to know it.
        if self._nursery is None or self._nursery.cancel_scope.cancel_called:
            return
        if self._unanswered >= 2:
            self.end(End.NO_PONG)
        elif self.socket.unfinished_bytes > MAX_UNFINISHED_BYTES:
            self.end(End.FLOODING)
        elif self._unanswered == 0:  # else one is under way
            self._nursery.start_soon(self._ping)
        self._unanswered += 1

    async def flush(self) -> None:
        """Send what is pending, after `run`. Raises Closed, trio.TooSlowError."""
        while frames := self.outbox.take(SEND_BYTES):
            await self.socket.send(frames, LAST_WRITE_S)

    def _wake(self) -> None:
        """The outbox has something. Small things are written at once where the writer has nothing to do: waking it
        for each frame takes several times the CPU time.
        """
        outbox, socket = self.outbox, self.socket
        if self._writer and self.ending is None and outbox.update_bytes + outbox.reply_bytes <= SEND_BYTES:
            if socket.ready and (frames := outbox.take(SEND_BYTES)):
                socket.write_now(frames)
                self.metrics.ws_frames.inc(len(frames))
            if not (outbox.busy or socket.unsent):
                self._news.unpark_all()
                return
        self._news.unpark_all()
        self._writer.unpark_all()

    async def _ping(self) -> None:
        try:
            await self.socket.ping()
        except Closed:
            return  # the receiving task notices and ends
        self._unanswered = 0

    # --- what comes in ---

    async def _receive(self) -> None:
        """Always receiving, whatever else goes on, so that pongs are seen (dashboards/websocket.py)."""
        while True:
            try:
                message = await self.socket.receive()
            except Closed as closed:
                self.end(BY_LIBRARY.get(closed.code, End.GONE))
                return
            self._take_in(message)
            while self.outbox.replies > MAX_REPLIES:
                await self._news.park()

    def _take_in(self, message: str | bytes) -> None:
        verdict = self._rate.request(trio.current_time())
        if verdict is Verdict.FLOODING:
            self.end(End.FLOODING)
        elif isinstance(message, bytes):
            self._wait_in_line(BadRequest(ErrorCode.BAD_REQUEST, "text frames only"))
        # The library counts characters.
        elif len(message) * 4 > (limit := self.settings.max_message_bytes) and len(message.encode()) > limit:
            self.end(End.TOO_LARGE)
        else:
            request = parse_request(message)
            if verdict is Verdict.LIMITED:
                rate = self.settings.max_requests_per_s
                request = BadRequest(ErrorCode.RATE_LIMITED, f"at most {rate} requests a second", request.request_id)
            self._wait_in_line(request)

    def _wait_in_line(self, request: Request | BadRequest) -> None:
        """Requests are handled in their order, one at a time."""
        if len(self._waiting) >= MAX_WAITING:
            self._reply_error(ErrorCode.RATE_LIMITED, "too many requests are waiting for an answer", request.request_id)
            return
        self._waiting.append(request)
        if not self._answering:
            assert self._nursery is not None
            self._answering = True
            self._nursery.start_soon(self._answer_all)

    # --- answers ---

    async def _answer_all(self) -> None:
        while self._waiting:
            while self.outbox.reply_bytes + self._writing_bytes > REPLY_BYTES:
                await self._news.park()
            await self.handle(self._waiting.popleft())
        self._answering = False

    async def handle(self, request: Request | BadRequest) -> None:
        """Answer one request; every answer is in the outbox when this returns."""
        outbox = self.outbox
        match request:
            case BadRequest(code=code, message=message):
                self._reply_error(code, message, request.request_id)
            case SubscribeRace():
                await self._subscribe(request)
            case UnsubscribeRace(race_id=race_id):
                if outbox.subscribed(race_id):
                    outbox.forget(race_id)
                    self.races.unsubscribe(race_id, outbox)
                outbox.reply(Frame(events.reply("race_unsubscribed", {"raceId": race_id}, request.request_id)))
            case ListRaces():
                await self._reply_from_history("races", list_races(self.history, self.grant.races), request.request_id)
            case GetHistory(query=query):
                if self._may_see(query.race_id, request.request_id):
                    await self._reply_from_history("history", one_page(self.history, query), request.request_id)
            case _:
                assert_never(request)

    async def _subscribe(self, request: SubscribeRace) -> None:
        race_id, outbox = request.race_id, self.outbox
        if not self._may_see(race_id, request.request_id):
            return
        if not outbox.subscribed(race_id) and outbox.subscriptions >= self.settings.max_subscriptions:
            limit = self.settings.max_subscriptions
            self._reply_error(ErrorCode.TOO_MANY_SUBSCRIPTIONS, f"at most {limit} races", request.request_id)
            return
        outbox.expect(race_id)
        self.races.subscribe(race_id, outbox, request.request_id)
        with trio.move_on_after(SNAPSHOT_WAIT_S):
            while outbox.expecting(race_id):
                await self._news.park()
        if outbox.expecting(race_id):
            event = events.error_event(ErrorCode.UNAVAILABLE, "the race does not answer", request.request_id)
            outbox.refuse(race_id, Frame(event))
        if not outbox.subscribed(race_id):
            self.races.unsubscribe(race_id, outbox)

    async def _reply_from_history(self, event: str, data: Awaitable[bytes], request_id: events.RequestId) -> None:
        try:
            parts = sliced(events.reply(event, await data, request_id))
            for part in parts[1:] if self.socket.deflated else ():  # the frame deflates the rest
                part.deflate()
                await trio.lowlevel.checkpoint()
            self.outbox.reply(Frame(*parts))
        except (Unavailable, StoreMisconfigured):
            self._reply_error(ErrorCode.UNAVAILABLE, "history cannot be read right now", request_id)

    def _may_see(self, race_id: str, request_id: events.RequestId) -> bool:
        if self.grant.allows(race_id):
            return True
        self._reply_error(ErrorCode.FORBIDDEN_RACE, f"the token does not allow race {race_id}", request_id)
        return False

    def _reply_error(self, code: ErrorCode, message: str, request_id: events.RequestId) -> None:
        self.outbox.reply(Frame(events.error_event(code, message, request_id)))

    async def _write(self) -> None:
        timeout_s = self.settings.send_timeout_ms / 1000
        while self.ending is None:
            for race_id in self.outbox.behind_due(trio.current_time()):
                self.metrics.ws_resyncs.inc()
                self.races.subscribe(race_id, self.outbox, None, resync=True)
            frames = self.outbox.take(SEND_BYTES)
            if not frames and not self.socket.unsent:
                with trio.CancelScope(deadline=self.outbox.next_due_s()):
                    await self._writer.park()
                continue
            self._writing_bytes = sum(map(len, frames))
            try:
                # Shielded: a cancelled write leaves half a frame, and then no close frame can follow.
                with trio.CancelScope(shield=True) as self._writing:
                    await self.socket.send(frames, timeout_s)
            except trio.TooSlowError:
                self.end(End.SLOW)
            except Closed:
                return  # the receiving task knows more
            self._writing, self._writing_bytes = None, 0
            self.metrics.ws_frames.inc(len(frames))
            self._news.unpark_all()
