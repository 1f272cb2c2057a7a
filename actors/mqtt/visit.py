"""A short connection with a clean session: CONNECT, a few packets and their answers, DISCONNECT.

Whoever visits waits for it, in a thread: of the driver, or of a command.
"""

from __future__ import annotations

import contextlib
import select
import ssl
import time
from collections.abc import Callable

import attrs
from paho.mqtt.enums import MQTTErrorCode
from paho.mqtt.properties import Properties

from actors.core.addresses import Address
from actors.mqtt.end import Ending, How
from actors.mqtt.paho import PAHO_ERRORS, Notes, PahoClient
from actors.mqtt.socket import BufferedSocket, Wait
from actors.mqtt.splitter import Arrivals
from actors.settings.load import MqttSettings, Secret

CONNACK_S = 10.0
TURN_S = 0.2
DISCONNECT = b"\xe0\x00"


@attrs.define(eq=False)
class Visit:
    """Owns the socket until `end`. `ended` says why the connection is over."""

    sock: BufferedSocket
    node: Address
    settings: MqttSettings  # with the visitor's own client_id; `protocol` is 5 or 3.1.1
    login: tuple[str, Secret]  # user name, empty: anonymous; password
    wait: Wait
    ended: Ending | None = None
    asked: tuple[str, ...] = ()  # filters of SUBSCRIBE without SUBACK
    published: str = ""  # topic of a PUBLISH without PUBACK
    arrivals: Arrivals = attrs.field(factory=Arrivals)
    client: PahoClient = attrs.field(init=False)
    notes: Notes = attrs.field(init=False, factory=Notes)  # all that came
    _accepted: bool = False

    def __attrs_post_init__(self) -> None:
        self.client = PahoClient(self.sock, self.arrivals, self.settings, *self.login, clean=True)
        self.client.notes = self.notes

    @property
    def properties(self) -> Properties | None:
        """Of CONNACK."""
        return self.notes.connack[2] if self.notes.connack else None

    def begin(self, within_s: float = CONNACK_S) -> bool:
        """Whether the broker has accepted us; else `ended` says why it has not."""
        self.client.open(self.node.host, self.node.port)
        self.until(lambda: self.notes.connack is not None, within_s)
        if self.notes.connack is None:
            self._end(How.SILENT, f"no answer to CONNECT within {within_s:g} s")
        elif self.notes.connack[1].is_failure:
            reason = self.notes.connack[1]
            self.ended = Ending(How.REFUSED, f"the broker refused us: {reason}", reason.value)
        self._accepted = self.ended is None
        return self._accepted

    def until(self, done: Callable[[], bool], within_s: float) -> bool:
        """Go on until `done`, for so many seconds at most, or to the end of the connection. Whether it is done."""
        deadline = time.monotonic() + within_s
        while not done() and self.ended is None and time.monotonic() < deadline:
            try:
                self._turn(min(deadline - time.monotonic(), TURN_S))
            except PAHO_ERRORS as error:
                self._end(How.LOST, f"connection lost: {error}")
        return done()

    def end(self) -> Ending:
        """DISCONNECT, as far as it can be sent at once, and close. Why the connection was over before, or is now."""
        if self.ended is None and self._accepted:
            with contextlib.suppress(OSError):
                self.sock.send(DISCONNECT)
                self.sock.flush()
        self.sock.close()
        self._end(How.OURS, "disconnected")
        assert self.ended is not None
        return self.ended

    def _turn(self, timeout_s: float) -> None:
        sock, client = self.sock, self.client
        if client.want_write():
            client.loop_write()
        sock.flush()
        events = select.POLLIN | (select.POLLOUT if sock.wants_write else 0)
        if not sock.pending() and not self.wait(max(timeout_s, 0.0), sock.fileno(), events) & ~select.POLLOUT:
            return
        try:
            data = sock.receive()
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return
        if not data:
            self._end(How.CLOSED, "connection lost")
            return
        sock.hand_on(data)
        while sock.handed_on and self.ended is None:
            code = client.loop_read()
            if client.farewell is not None:
                self._end(How.SAID, f"the broker disconnected us: {client.farewell}", client.farewell.value)
            elif code != MQTTErrorCode.MQTT_ERR_SUCCESS and self.notes.connack is None:
                self._end(How.GARBLED, "protocol error")

    def _end(self, how: How, text: str, code: int = 0) -> None:
        """The first reason counts."""
        if self.ended is None:
            before = "" if self._accepted or how in (How.OURS, How.SILENT) else " before CONNACK"
            self.ended = Ending(how, text + before, code, self._accepted, self.asked, (), self.published)
