"""A WebSocket client on a bare socket (RFC 6455), and what dashboards of the daemon and of the peer say on it.

A client library in Python costs more than the daemon in a burst, and would be treated as the slow dashboard it is.
"""

from __future__ import annotations

import json
import socket

import attrs

from tests.kit.tokens import token
from tests.kit.websocket import CONTINUATION, LAST, OFFER, PING, PONG, TEXT, fragments, frame, request, texts_of

READ_BYTES = 1 << 20
TIMEOUT_S = 60.0


@attrs.frozen
class Dialect:
    """How a dashboard subscribes, and what it is told."""

    path: str
    opening: tuple[tuple[str, str], ...]  # what is said ("": nothing), and how the frame begins that has to come then
    updates: tuple[bytes, ...]  # how the events begin that hold changes
    snapshot: bytes = b"\0"  # how a snapshot begins
    beat: bytes = b"\0"  # a frame of its own that asks whether we are there
    answer: bytes = b""
    offer: str | None = None  # of compression


SUBSCRIBE = '{"event":"subscribe_race","data":{"raceId":"RACE"}}'
DIALECTS = {
    "daemon": Dialect(
        "/tracking?token=TOKEN",
        ((SUBSCRIBE, '{"event":"race_snapshot"'),),
        (b'{"event":"position_update"', b'{"event":"batch_position_update"'),
        b'{"event":"race_snapshot"',
    ),
    "ws": Dialect("/tracking", ((SUBSCRIBE, '{"event":"subscribed"'),), (b'{"event":"position_update"',)),
    # Engine.IO 4 with Socket.IO 5 in it: a digit each, the namespace, then an array.
    "socketio": Dialect(
        "/socket.io/?EIO=4&transport=websocket",
        (
            ("", "0{"),
            ("40/tracking,", "40/tracking,"),
            ('42/tracking,["subscribe_race",{"raceId":"RACE"}]', '42/tracking,["subscribed"'),
        ),
        (b'42/tracking,["position_update"',),
        beat=b"2",
        answer=b"3",
    ),
}


DIALECTS["compressed"] = attrs.evolve(DIALECTS["daemon"], offer=OFFER)


@attrs.define(eq=False)
class WebSocket:
    """Blocking. What has come beyond the frame that `receive` gave is in `rest`."""

    sock: socket.socket
    rest: bytes = b""

    def say(self, text: str) -> None:
        """One text frame."""
        self.sock.sendall(frame(TEXT, text.encode()))

    def receive(self) -> bytes:
        """The next text; pings are answered. Raises EOFError when the server closes."""
        text: list[bytes] = []
        while True:
            for first, start, end in fragments(memoryview(self.rest)):
                whole, self.rest = self.rest[:end], self.rest[end:]
                if first & 0x0F == PING:
                    self.sock.sendall(frame(PONG, whole[start:]))
                elif first & 0x0F in (TEXT, CONTINUATION):
                    text.append(whole)
                    if first & LAST:
                        return texts_of(text)[0]
                break
            else:
                self._more()

    def until(self, beginning: str) -> bytes:
        """The next text that begins so; others are dropped."""
        while not (text := self.receive()).startswith(beginning.encode()):
            assert not text.startswith(b'{"event":"error"'), text
        return text

    def ask(self, event: str, data: dict[str, object], answer: str) -> bytes:
        """What the daemon answers to a request."""
        self.say(json.dumps({"event": event, "data": data}))
        return self.until(f'{{"event":"{answer}"')

    def _more(self) -> None:
        data = self.sock.recv(READ_BYTES)
        if not data:
            raise EOFError("the server closed the connection")
        self.rest += data


def connect(port: int, path: str, receive_buffer: int = 0, offer: str | None = None) -> WebSocket:
    """A connection that was upgraded; `receive_buffer` bytes for the kernel to keep, 0 = as it likes."""
    sock = socket.socket()
    sock.settimeout(TIMEOUT_S)
    if receive_buffer:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    sock.connect(("127.0.0.1", port))
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    fields = {"Host": f"127.0.0.1:{port}", "Authorization": None, "Sec_WebSocket_Extensions": offer}
    sock.sendall(request(path.replace("TOKEN", token()), line="", **fields))
    head = b""
    while b"\r\n\r\n" not in head:
        data = sock.recv(4096)
        assert data, f"closed after {head!r}"
        head += data
    head, _, rest = head.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 101 "), head
    return WebSocket(sock, rest)


def subscribe(port: int, dialect: Dialect, race_id: str, receive_buffer: int = 0) -> WebSocket:
    """A dashboard of this race."""
    made = connect(port, dialect.path, receive_buffer, dialect.offer)
    for said, expected in dialect.opening:
        if said:
            made.say(said.replace("RACE", race_id))
        made.until(expected)
    return made
