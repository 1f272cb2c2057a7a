"""The press of a race day: trackers that publish at a rate and keep each message until its PUBACK.

A fix is written down before it is published and again when the broker has acknowledged it; the checker compares that
with what became of it. What is unacknowledged when the connection ends is sent again, first, on the next one.
"""

from __future__ import annotations

import json
import random
import threading
import time
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from uuid import uuid4

import attrs
from paho.mqtt import client as mqtt
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from tests.kit.daemon import until
from tests.kit.expected import fix, fix_id, now_ms

KEEPALIVE_S = 5
CONNACK_S = 3.0
RETRY_S = 0.2
TURN_S = 0.02
WINDOW = 200
"""Messages on their way at once; beyond it no new ones are made."""

LATE, ARRAY, REPEAT = 0.05, 0.05, 0.03
"""Parts of the messages that hold an older fix, several fixes, a fix sent before."""

Fixes = tuple[dict[str, Any], ...]


@attrs.define(eq=False)
class Press:
    """Used as `with Press(port, ...) as press:`; the thread publishes until `finish`, or as long as the block lasts."""

    port: int
    race: str | Sequence[str] = "R"  # one or more
    rate: float = 50.0  # messages a second
    participants: int = 10  # a race
    resting: int = 0  # of them: move once and never again, so that no later fix hides that they were forgotten
    seed: int = 1
    protocol: MQTTProtocolVersion = MQTTProtocolVersion.MQTTv5
    login: tuple[str, str] | None = None  # user, password
    sent: dict[str, dict[str, Any]] = attrs.field(factory=dict)  # row id -> fix
    acknowledged: set[str] = attrs.field(factory=set)  # row ids
    history: list[tuple[int, str, str]] = attrs.field(factory=list)  # (Unix ms, what, row id)
    acknowledged_ms: dict[str, int] = attrs.field(factory=dict)  # row id -> when first
    _rng: random.Random = attrs.field(init=False)
    _places: dict[tuple[str, str], tuple[int, float, float]] = attrs.field(factory=dict)  # Unix ms, lat, lon
    _waiting: deque[Fixes] = attrs.field(factory=deque)  # to be published before anything new
    _unanswered: dict[int, Fixes] = attrs.field(factory=dict)  # by packet id
    _making: threading.Event = attrs.field(factory=threading.Event)  # new fixes are made
    _turn: threading.Lock = attrs.field(factory=threading.Lock)  # held from making one until it is noted
    _ending: threading.Event = attrs.field(factory=threading.Event)
    _is_up: bool = False
    _refusal: str = ""
    _due_s: float = 0.0  # monotonic: when the next message is to be made
    _failure: BaseException | None = None
    _thread: threading.Thread = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self._rng = random.Random(self.seed)
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._making.set()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, _error: object, _trace: TracebackType | None) -> None:
        self._ending.set()
        self._thread.join()
        if self._failure is not None and kind is None:
            raise self._failure

    def pause(self) -> None:
        """No new fixes until `resume`; returns when all that were sent are acknowledged."""
        with self._turn:  # or one could be made now, and counted after it was looked whether all is quiet
            self._making.clear()
        until(lambda: self._failure or self.quiet, f"{len(self._unanswered)} messages are not acknowledged", 60)
        if self._failure is not None:
            raise self._failure

    def resume(self) -> None:
        """Make new fixes again."""
        self._making.set()

    def finish(self) -> None:
        """No new fixes any more; returns when all that were sent are acknowledged. The broker has to be there."""
        self.pause()

    @property
    def quiet(self) -> bool:
        """Everything that was sent is acknowledged, and nothing new is made."""
        return not self._making.is_set() and len(self.acknowledged) == len(self.sent)

    @property
    def races(self) -> tuple[str, ...]:
        return (self.race,) if isinstance(self.race, str) else tuple(self.race)

    def write_history(self, path: Path) -> None:
        """What was published and acknowledged when, and what every row id stands for."""
        with path.open("w") as file:
            for ms, what, row_id in tuple(self.history):
                file.write(json.dumps([ms, what, row_id]) + "\n")
            for row_id, one in self.sent.items():
                file.write(json.dumps([row_id, one]) + "\n")

    # --- the thread ---

    def _run(self) -> None:
        try:
            while not self._ending.is_set():
                self._connection()
                self._ending.wait(RETRY_S)
        except BaseException as failure:
            self._failure = failure
            raise

    def _connection(self) -> None:
        """One connection, to its end."""
        client = mqtt.Client(
            CallbackAPIVersion.VERSION2,
            client_id=f"press-{uuid4().hex[:12]}",
            protocol=self.protocol,
            reconnect_on_failure=False,
        )
        client.max_inflight_messages_set(0)
        if self.login is not None:
            client.username_pw_set(*self.login)
        client.on_connect, client.on_publish = self._connected, self._published
        try:
            client.connect("127.0.0.1", self.port, KEEPALIVE_S)
            started = time.monotonic()
            while client.loop(TURN_S) == mqtt.MQTT_ERR_SUCCESS and not self._ending.is_set():
                if self._is_up:
                    self._publish(client)
                elif time.monotonic() - started > CONNACK_S:
                    break
            client.disconnect()
        except OSError:
            pass
        finally:
            self._is_up = False
            self._waiting.extendleft(reversed(self._unanswered.values()))
            self._unanswered.clear()

    def _publish(self, client: mqtt.Client) -> None:
        """What is due now."""
        now_s = time.monotonic()
        self._due_s = max(self._due_s, now_s - 1.0)  # after an outage at most a second is caught up with
        while len(self._unanswered) < WINDOW:
            with self._turn:
                if self._waiting:
                    fixes = self._waiting.popleft()
                elif self._due_s <= now_s and self._making.is_set():
                    self._due_s += 1 / self.rate
                    fixes = self._make()
                else:
                    return
                self._note("sent", fixes)
            payload = json.dumps(fixes[0] if len(fixes) == 1 else fixes)
            sent = client.publish(f"tracking/{fixes[0]['participant_id']}/position", payload, qos=1)
            self._unanswered[sent.mid] = fixes

    def _make(self) -> Fixes:
        """A message: mostly the next fix of somebody."""
        rng = self._rng
        race, number = rng.choice(self.races), rng.randrange(self.participants)
        if number < self.resting and (race, f"P{number}") in self._places:
            number = rng.randrange(self.resting, self.participants)
        who = race, f"P{number}"
        kind = rng.random()
        if kind < REPEAT and self.sent:
            return (self.sent[rng.choice(self.history)[2]],)
        if kind < REPEAT + LATE and who in self._places:
            at_ms, latitude, longitude = self._places[who]
            return (_fix(who, at_ms - rng.randrange(1, 60_000), latitude, longitude),)
        count = rng.randrange(2, 6) if kind < REPEAT + LATE + ARRAY else 1
        return tuple(self._step(who) for _ in range(count))

    def _step(self, who: tuple[str, str]) -> dict[str, Any]:
        at_ms, latitude, longitude = self._places.get(who, (0, 47.0, 8.0))
        latitude = round(latitude + self._rng.uniform(-1e-4, 1e-4), 7)
        longitude = round(longitude + self._rng.uniform(-1e-4, 1e-4), 7)
        at_ms = max(now_ms(), at_ms + 1)
        self._places[who] = at_ms, latitude, longitude
        return _fix(who, at_ms, latitude, longitude)

    def _note(self, what: str, fixes: Fixes) -> None:
        at_ms = now_ms()
        for one in fixes:
            row_id = fix_id(one)
            if what == "sent":
                self.sent[row_id] = one
            elif row_id not in self.acknowledged:
                self.acknowledged_ms[row_id] = at_ms
                self.acknowledged.add(row_id)
            self.history.append((at_ms, what, row_id))

    def _connected(self, _client: mqtt.Client, _data: object, _flags: object, reason: ReasonCode, _: object) -> None:
        assert not reason.is_failure, reason
        self._is_up = True

    def _published(
        self, _client: mqtt.Client, _data: object, packet_id: int, reason: ReasonCode, _: Properties | None
    ) -> None:
        assert not reason.is_failure, reason
        fixes = self._unanswered.pop(packet_id, None)
        if fixes is not None:
            self._note("acknowledged", fixes)


def _fix(who: tuple[str, str], at_ms: int, latitude: float, longitude: float) -> dict[str, Any]:
    return fix(*who, at_ms, latitude=latitude, longitude=longitude)
