"""Frames waiting for one dashboard: bounded; what overflows is replaced by a snapshot later (resync).

Pending updates take at most `limit_bytes`. One more and all pending updates of the dashboard are dropped, replies
never; the races that lost one are behind: their updates are ignored until a resync snapshot stands in for them.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable

from actors.dashboards.frames import Frame

RESYNC_INTERVAL_S = 5.0
"""At most one resync of a race in this time."""

RESYNC_BELOW = 4
"""A resync is asked for once less than this part of the limit is pending: sooner would only overflow again."""


_GOES_ON = ""  # no race has this id


class _Stream:
    """What the dashboard gets of one race."""

    __slots__ = ("expected", "held", "live", "resync_asked_s", "torn")

    def __init__(self) -> None:
        self.live = False  # its first snapshot has come
        self.held: list[bytes] | None = None  # updates since the moment of a snapshot that is being made
        self.torn = False  # some of these were dropped
        self.expected = False  # a request waits for a snapshot or a refusal
        self.resync_asked_s = -math.inf  # or answered, which is later


class Outbox:
    """Owned by one subscriber; races hold a reference and offer frames to it. Never blocks, never raises.

    `wake` is called, synchronously, whenever there is something new for the subscriber to do: frames to take, a
    resync to ask for, an expected answer that came. It must not call back into the outbox's offering methods.
    All sizes are of what goes out: of a dashboard that takes compressed frames, of those.
    """

    def __init__(self, limit_bytes: int, wake: Callable[[], None], deflated: bool = False) -> None:
        self.deflated = deflated  # it takes compressed frames
        self._limit_bytes = limit_bytes
        self._wake = wake
        self._streams: dict[str, _Stream] = {}
        self._behind: dict[str, float] = {}  # races with dropped updates: when asked since then, -inf = not yet
        # In the order in which they will be sent. A race id marks an update, which may be dropped; None a reply, or the
        # last fragment of one; _GOES_ON the others.
        self._pending: deque[tuple[str | None, bytes]] = deque()
        self.update_bytes = 0  # pending and held updates, 0..limit_bytes
        self.reply_bytes = 0  # pending replies, bounded by the subscriber, which asks for one at a time
        self.replies = 0  # how many

    @property
    def subscriptions(self) -> int:
        """Races subscribed or about to be."""
        return len(self._streams)

    @property
    def busy(self) -> bool:
        """Whether there is anything for the subscriber to do: frames to take, a resync to ask for now or later."""
        return bool(self._pending or self._behind)

    def subscribed(self, race_id: str) -> bool:
        """Whether the race is subscribed or about to be."""
        return race_id in self._streams

    def expecting(self, race_id: str) -> bool:
        """Whether a request still waits for the snapshot or the refusal of this race."""
        stream = self._streams.get(race_id)
        return stream is not None and stream.expected

    def expect(self, race_id: str) -> None:
        """A subscription was asked for: updates of a new race are ignored until its snapshot comes.

        Where it is subscribed already, updates go on: they come before the new snapshot.
        """
        self._streams.setdefault(race_id, _Stream()).expected = True

    def forget(self, race_id: str) -> None:
        """Unsubscribed: pending updates of the race are dropped, later offers are ignored."""
        if self._streams.pop(race_id, None) is not None:
            self._behind.pop(race_id, None)
            self._drop_updates(race_id)

    def forget_all(self) -> list[str]:
        """The dashboard goes: the races it was subscribed to, all forgotten; what is pending can still be taken. Nobody
        is woken any more, nor held by this."""
        self._wake = _nobody
        races = list(self._streams)
        self._streams.clear()
        self._behind.clear()
        return races

    def hold(self, race_id: str) -> None:
        """From the race: a snapshot of this moment will be made, in turns. Updates wait behind it, until `release`."""
        stream = self._streams.get(race_id)
        if stream is not None:
            self.update_bytes -= sum(map(len, stream.held or ()))
            stream.held, stream.torn = [], False

    def release(self, race_id: str) -> None:
        """From the race: the snapshot has been offered."""
        stream = self._streams.get(race_id)
        if stream is None or stream.held is None:
            return
        held, stream.held = stream.held, None
        if stream.live and race_id not in self._behind and not stream.torn:
            self._pending.extend([(race_id, data) for data in held])
        else:
            self.update_bytes -= sum(map(len, held))
            if stream.live:
                self._behind.setdefault(race_id, -math.inf)
        self._wake()

    def snapshot(self, race_id: str, frame: Frame, *, resync_s: float | None = None) -> None:
        """From the race: the snapshot; a reply, so never dropped. Opens the stream of updates.

        `resync_s`: of a resync, when it was made, on the clock of `behind_due`: the next one counts from there.
        """
        stream = self._streams.get(race_id)
        if stream is None:
            return
        if resync_s is None:
            stream.expected = False
        elif race_id not in self._behind:  # the snapshot of a request was faster
            return
        else:
            stream.resync_asked_s = max(stream.resync_asked_s, resync_s)
        stream.live = True
        self._behind.pop(race_id, None)
        self.reply(frame)

    def update(self, race_id: str, frame: Frame) -> None:
        """From the race: one frame, shared by all dashboards of the race."""
        stream = self._streams.get(race_id)
        if stream is None or (stream.torn if stream.held is not None else not stream.live or race_id in self._behind):
            return
        data = frame.deflated if self.deflated else frame.plain
        if self.update_bytes + len(data) > self._limit_bytes:
            self._fall_behind(race_id, stream)
            self._overflow()
        elif stream.held is not None:
            stream.held.append(data)
            self.update_bytes += len(data)
            return
        else:
            self._pending.append((race_id, data))
            self.update_bytes += len(data)
        self._wake()

    def lose(self, race_id: str) -> None:
        """From the directory: changes of the race were lost before they became updates, as if they had overflowed.

        What is pending is older and still goes out; later updates are ignored until the resync.
        """
        stream = self._streams.get(race_id)
        if stream is not None and (stream.held is not None or (stream.live and race_id not in self._behind)):
            self._fall_behind(race_id, stream)
            self._wake()

    def refuse(self, race_id: str, frame: Frame) -> None:
        """From the directory: the subscription cannot be served (an `error` frame instead of a snapshot).

        A refused resync is kept to ourselves, and asked for again later.
        """
        self.release(race_id)
        stream = self._streams.get(race_id)
        if stream is None or not stream.expected:
            return
        stream.expected = False
        if not stream.live:
            del self._streams[race_id]
        self.reply(frame)

    def reply(self, frame: Frame) -> None:
        """A frame that is never dropped, after everything that is pending now."""
        *pieces, last = frame.pieces(self.deflated)
        self._pending.extend([(_GOES_ON, piece) for piece in pieces])
        self._pending.append((None, last))
        self.reply_bytes += sum(map(len, pieces)) + len(last)
        self.replies += 1
        self._wake()

    def take(self, max_bytes: int) -> list[bytes]:
        """The next frames, in order: as many as fit into `max_bytes`, but at least one when there is one."""
        frames: list[bytes] = []
        size = 0
        pending = self._pending
        while pending:
            race_id, frame = pending[0]
            size += len(frame)
            if frames and size > max_bytes:
                break
            pending.popleft()
            frames.append(frame)
            if not race_id:
                self.reply_bytes -= len(frame)
                self.replies -= race_id is None
            else:
                self.update_bytes -= len(frame)
        return frames

    def behind_due(self, now_s: float) -> list[str]:
        """Races to ask a resync for now. At most one, so that snapshots do not pile up; it is given only once in
        RESYNC_INTERVAL_S, and again after that if no snapshot came.
        """
        if self.next_due_s() > now_s:
            return []
        race_id = min(self._behind, key=self._last_asked_s)
        self._streams[race_id].resync_asked_s = self._behind[race_id] = now_s
        return [race_id]

    def next_due_s(self) -> float:
        """When `behind_due` can give something, on its clock; infinite when something else has to happen first."""
        if not self._behind:
            return math.inf
        if (self.update_bytes + self.reply_bytes) * RESYNC_BELOW >= self._limit_bytes:
            return math.inf
        if any(stream.expected for stream in self._streams.values()):
            return math.inf
        # One that was asked and has not answered keeps the others waiting until it may be asked again.
        return RESYNC_INTERVAL_S + max(max(self._behind.values()), min(map(self._last_asked_s, self._behind)))

    def _last_asked_s(self, race_id: str) -> float:
        return self._streams[race_id].resync_asked_s

    def _overflow(self) -> None:
        kept: deque[tuple[str | None, bytes]] = deque()
        for race_id, frame in self._pending:
            if not race_id:
                kept.append((race_id, frame))
            elif self._streams[race_id].held is None:  # else the snapshot stands in for it
                self._behind[race_id] = -math.inf
        for race_id, stream in self._streams.items():
            if stream.held:
                self._fall_behind(race_id, stream)
        self._pending = kept
        self.update_bytes = 0

    def _fall_behind(self, race_id: str, stream: _Stream) -> None:
        """Some of its updates are dropped; where a snapshot is on its way, this one will not stand in for them."""
        if stream.held is None:
            self._behind[race_id] = -math.inf
        else:
            stream.torn = True
            stream.held.clear()

    def _drop_updates(self, race_id: str) -> None:
        self._pending = deque(entry for entry in self._pending if entry[0] != race_id)
        self.update_bytes = sum(len(frame) for marked, frame in self._pending if marked)
        self.update_bytes += sum(len(frame) for stream in self._streams.values() for frame in stream.held or ())


def _nobody() -> None:
    """Is woken."""
