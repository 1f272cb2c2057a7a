"""Many dashboards of one race that cost little, in a process of their own: one epoll, frames cut out of bare sockets.

Prints `ready` when all have subscribed, and at the end one JSON object: when each has had all updates that it was
promised, or stdin is closed. Only the first sight of a frame costs more than a look at its length: dashboards of a race
get the same frames. Decoding, order and latencies come after the measurement.
"""

from __future__ import annotations

import argparse
import json
import re
import select
import sys
import time
from array import array
from collections import Counter
from collections.abc import Iterable
from datetime import datetime

import attrs

from tests.benchmarks.websocket import DIALECTS, READ_BYTES, Dialect, WebSocket, subscribe
from tests.kit.websocket import CLOSE, DEFLATED, PING, PONG, TEXT, frame, frames, inflated

POSITION = re.compile(rb'"participantId":"([^"]*)".*?"timestamp":"([^"]*)"')
EDGE_BYTES = 256
"""Frames of one length with the same first and last bytes are the same: both ends hold ids and timestamps."""

SMALL_BUFFER = 4096  # of the kernel, for dashboards that are to be slow


@attrs.define
class Frames:
    """Every distinct frame with updates, once."""

    numbers: dict[tuple[int, bytes, bytes], int] = attrs.field(factory=dict)
    payloads: list[bytes] = attrs.field(factory=list)
    updates: list[int] = attrs.field(factory=list)  # how many are in it

    def number(self, payload: memoryview, compressed: bool) -> int:
        """Of the frame with this payload; one that is compressed need not have updates."""
        key = (len(payload), bytes(payload[:EDGE_BYTES]), bytes(payload[-EDGE_BYTES:]))
        found = self.numbers.get(key)
        if found is None:
            found = self.numbers[key] = len(self.payloads)
            self.payloads.append(inflated(bytes(payload)) if compressed else bytes(payload))
            self.updates.append(self.payloads[-1].count(b'"participantId"'))
        return found


@attrs.define(eq=False)
class Dashboard:
    """One of them."""

    socket: WebSocket
    came: array[float] = attrs.field(factory=lambda: array("d"))  # Unix time of each frame with updates
    numbers: array[int] = attrs.field(factory=lambda: array("I"))  # which frame it was
    updates: int = 0
    received_bytes: int = 0
    resyncs: int = 0  # the snapshot of the subscription is not counted
    closed: bool = False


@attrs.define
class Crowd:
    """All of them."""

    dialect: Dialect
    promised: int  # updates to each; 0 = stay until stdin is closed
    boards: list[Dashboard]
    frames: Frames = attrs.field(factory=Frames)
    complete: int = 0  # dashboards that had all
    _buffer: memoryview = attrs.field(factory=lambda: memoryview(bytearray(READ_BYTES)))

    def listen(self) -> None:
        """Read whatever comes."""
        poll = select.epoll()
        poll.register(sys.stdin, select.EPOLLIN)
        boards = {board.socket.sock.fileno(): board for board in self.boards}
        for number, board in boards.items():
            board.socket.sock.setblocking(False)
            poll.register(number, select.EPOLLIN)
        while not self.promised or self.complete < len(self.boards):
            for number, _ in poll.poll():
                if number not in boards:
                    return
                self._read(boards[number], READ_BYTES)
                if boards[number].closed:
                    poll.unregister(number)

    def listen_slowly(self, read_bytes: int, every_s: float) -> None:
        """Read this much of each, then wait; 0 = never."""
        for board in self.boards:
            board.socket.sock.setblocking(False)
        while not select.select([sys.stdin], [], [], every_s)[0]:
            for board in self.boards:
                if read_bytes and not board.closed:
                    self._read(board, read_bytes)

    def _read(self, board: Dashboard, size: int) -> None:
        try:
            size = board.socket.sock.recv_into(self._buffer, size)
        except BlockingIOError:
            return
        except OSError:
            size = 0
        came = time.time()
        board.closed = size == 0
        board.received_bytes += size
        data = self._buffer[:size]
        if board.socket.rest:
            data = memoryview(board.socket.rest + data)
        done = 0
        for opcode, start, done in frames(data):
            if opcode & ~DEFLATED == TEXT:
                self._text(board, came, data[start:done], opcode & DEFLATED > 0)
            elif opcode == PING:
                board.socket.sock.send(frame(PONG, bytes(data[start:done])))
            else:
                assert opcode == CLOSE, opcode
        board.socket.rest = bytes(data[done:])

    def _text(self, board: Dashboard, came: float, payload: memoryview, compressed: bool) -> None:
        head = bytes(payload[:40])
        if compressed:
            head = self.frames.payloads[self.frames.number(payload, compressed)][:40]
        if head.startswith(self.dialect.updates):
            number = self.frames.number(payload, compressed)
            board.came.append(came)
            board.numbers.append(number)
            had, board.updates = board.updates, board.updates + self.frames.updates[number]
            self.complete += had < self.promised <= board.updates
        elif head.startswith(self.dialect.snapshot):
            board.resyncs += 1
        elif head == self.dialect.beat:
            board.socket.say(self.dialect.answer.decode())


def report(crowd: Crowd) -> dict[str, float]:
    """What they saw."""
    positions = [
        [(who, datetime.fromisoformat(when.decode()).timestamp()) for who, when in POSITION.findall(payload)]
        for payload in crowd.frames.payloads
    ]
    assert list(map(len, positions)) == crowd.frames.updates
    judged: dict[bytes, bool] = {}
    latencies: Counter[int] = Counter()
    for board in crowd.boards:
        sequence = board.numbers.tobytes()
        if sequence not in judged:
            judged[sequence] = in_order(position for number in board.numbers for position in positions[number])
        for came, number in zip(board.came, board.numbers, strict=True):
            latencies.update([int((came - when) * 1000) for _, when in positions[number]])
    updates = [board.updates for board in crowd.boards]
    return {
        "updates": sum(updates),
        "fewest": min(updates),
        "complete": crowd.complete,
        "in_order": sum(judged[board.numbers.tobytes()] for board in crowd.boards),
        "resyncs": sum(board.resyncs for board in crowd.boards),
        "closed": sum(board.closed for board in crowd.boards),
        "frames": sum(len(board.came) for board in crowd.boards),
        "received_bytes": sum(board.received_bytes for board in crowd.boards),
        "p50_ms": quantile(latencies, 0.5),
        "p99_ms": quantile(latencies, 0.99),
        "max_ms": quantile(latencies, 1),
    }


def in_order(positions: Iterable[tuple[bytes, float]]) -> bool:
    """Each participant only goes forward."""
    newest: dict[bytes, float] = {}
    for who, when in positions:
        if newest.get(who, 0.0) >= when:
            return False
        newest[who] = when
    return True


def quantile(counts: Counter[int], part: float) -> float:
    """The smallest value that this part of all does not exceed."""
    left = part * counts.total()
    for value in sorted(counts):
        left -= counts[value]
        if left <= 0:
            return value
    return 0.0


def main() -> None:
    """Subscribe, listen, report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--dialect", choices=DIALECTS, required=True)
    parser.add_argument("--race", required=True)
    parser.add_argument("--dashboards", type=int, default=1)
    parser.add_argument("--updates", type=int, default=0, help="for each of them; 0 = until stdin is closed")
    parser.add_argument("--read-bytes", type=int, help="be slow: take only so much at a time; 0 = nothing at all")
    parser.add_argument("--every-ms", type=float, default=100)
    args = parser.parse_args()
    dialect = DIALECTS[args.dialect]
    small = SMALL_BUFFER if args.read_bytes is not None else 0
    boards = [Dashboard(subscribe(args.port, dialect, args.race, small)) for _ in range(args.dashboards)]
    crowd = Crowd(dialect, args.updates, boards)
    print("ready", flush=True)
    cpu_s = time.process_time()
    if args.read_bytes is None:
        crowd.listen()
    else:
        crowd.listen_slowly(args.read_bytes, args.every_ms / 1000)
    cpu_s = time.process_time() - cpu_s
    print(json.dumps({**report(crowd), "cpu_s": cpu_s}))


if __name__ == "__main__":
    main()
