"""What the trio side wants of the thread that owns paho: plain values with one writer each, queues, and a bell."""

from __future__ import annotations

import select
import socket
from collections import deque

import attrs

MAX_PUBLISHES = 10_000
"""Waiting to be published; beyond it the oldest is dropped."""


class Bell:
    """Wakes the thread. `ring` is for the trio side, `wait` for the thread."""

    def __init__(self) -> None:
        self._ear, self._clapper = socket.socketpair()
        self._ear.setblocking(False)
        self._rung = False  # a byte is on its way: saves a system call for each further ring

    def ring(self) -> None:
        if not self._rung:
            self._rung = True
            self._clapper.send(b"\0")

    def wait(self, timeout_s: float, fd: int = -1, events: int = 0) -> int:
        """Sleep until the bell rings, `fd` is ready (returns its events, else 0) or time is up."""
        poll = select.poll()
        poll.register(self._ear, select.POLLIN)
        if fd >= 0:
            poll.register(fd, events)
        ready = 0
        for number, happened in poll.poll(max(0.0, timeout_s * 1000)):
            if number == fd:
                ready = happened
            else:
                self._ear.recv(64)
                self._rung = False
        return ready

    def close(self) -> None:
        """Nobody rings it any more; further rings are ignored."""
        self._rung = True
        self._ear.close()
        self._clapper.close()


@attrs.define(eq=False)
class Orders:
    """What the trio side wants. It is the only writer, except where said."""

    bell: Bell = attrs.field(factory=Bell)
    acks: deque[tuple[int, tuple[int, ...]]] = attrs.field(factory=deque)  # (epoch, packet ids); the thread pops
    publishes: deque[tuple[str, bytes]] = attrs.field(factory=lambda: deque(maxlen=MAX_PUBLISHES))  # the thread pops
    held: bool = False
    dropping: bool = False  # the thread resets it
    finishing: bool = False
    taken: int = 0  # MessagesArrived that the reader has processed
    starved: bool = False  # written by the thread: it does not read until something is taken
