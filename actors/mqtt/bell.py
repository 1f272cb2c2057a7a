"""Wakes a thread that waits for a socket."""

from __future__ import annotations

import select
import socket

import trio


class Bell:
    """`ring` is for the trio side, `wait` for the thread, which trio started. Who cancels the thread rings, too."""

    def __init__(self) -> None:
        self._ear, self._clapper = socket.socketpair()
        self._ear.setblocking(False)
        self._rung = False  # a byte is on its way: saves a system call for each further ring

    def ring(self) -> None:
        """Wake the thread, or keep it from falling asleep."""
        if not self._rung:
            self._rung = True
            self._clapper.send(b"\0")

    def wait(self, timeout_s: float, fd: int = -1, events: int = 0) -> int:
        """Sleep until the bell rings, `fd` is ready (returns its events, else 0) or time is up. Raises Cancelled."""
        trio.from_thread.check_cancelled()
        poll = select.poll()
        poll.register(self._ear, select.POLLIN)
        if fd >= 0:
            poll.register(fd, events)
        ready = 0
        for number, happened in poll.poll(max(0.0, timeout_s * 1000)):
            if number == fd:
                ready = happened
            else:  # in this order: what is queued after the flag falls rings again
                self._ear.recv(64)
                self._rung = False
        trio.from_thread.check_cancelled()
        return ready

    def close(self) -> None:
        """When the thread has ended; further rings are ignored."""
        self._rung = True
        self._ear.close()
        self._clapper.close()
