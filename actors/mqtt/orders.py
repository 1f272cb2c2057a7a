"""What the trio side wants of the thread that owns paho: plain values with one writer each, queues, and a bell."""

from __future__ import annotations

from collections import deque

import attrs

from actors.mqtt.bell import Bell

MAX_PUBLISHES = 10_000
"""Waiting to be published; beyond it the oldest is dropped."""


class Stopped(Exception):
    """The link is to end: `disconnect()` was called while the thread was busy with something else."""


@attrs.define(eq=False)
class Orders:
    """What the trio side wants. It is the only writer, except where said."""

    bell: Bell = attrs.field(factory=Bell)
    acks: deque[tuple[int, tuple[int, ...]]] = attrs.field(factory=deque)  # (epoch, packet ids); the thread pops
    publishes: deque[tuple[str, bytes]] = attrs.field(factory=lambda: deque(maxlen=MAX_PUBLISHES))  # the thread pops
    held: bool = False
    dropping: bool = False  # the thread resets it
    leaving: int = 0  # how often to be unsubscribed from everything; 0: not at all
    finishing: bool = False
    forgetting: bool = False  # and have the broker forget the session then
    taken: int = 0  # MessagesArrived that the reader has processed
    starved: bool = False  # written by the thread: it does not read until something is taken
