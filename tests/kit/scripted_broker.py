"""A small MQTT broker that does what a test tells it, right or wrong, and records what it receives.

    async with scripted_broker(protocol=5) as broker:
        client = await broker.connected()          # CONNECT came, CONNACK as `broker.connack` says went out
        await client.subscribed.wait()
        await client.publish(b"t", b"x", qos=1, packet_id=7)
        await client.until(lambda: client.acks == [7])

It answers SUBSCRIBE, UNSUBSCRIBE and PINGREQ by itself unless told to be silent; it routes what `routes` says.
"""

from __future__ import annotations

import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import attrs
import trio

CONNECT, CONNACK, PUBLISH, PUBACK, PUBREC, PUBREL, PUBCOMP = 1, 2, 3, 4, 5, 6, 7
SUBSCRIBE, SUBACK, UNSUBSCRIBE, UNSUBACK, PINGREQ, PINGRESP, DISCONNECT = 8, 9, 10, 11, 12, 13, 14


def packet(kind: int, body: bytes, flags: int = 0) -> bytes:
    """Fixed header (MQTT 5 section 2.1) and body."""
    length, size = bytearray(), len(body)
    while True:
        size, digit = divmod(size, 128)[0], size % 128
        length.append(digit | (0x80 if size else 0))
        if not size:
            return bytes([kind << 4 | flags]) + bytes(length) + body


def text(data: bytes) -> bytes:
    """A string with its length in front."""
    return struct.pack("!H", len(data)) + data


@attrs.frozen
class Packet:
    """One packet that came in."""

    kind: int
    flags: int
    body: bytes


@attrs.define(eq=False)
class BrokerSide:
    """One connection, seen from the broker."""

    stream: trio.SocketStream
    broker: ScriptedBroker
    received: list[Packet] = attrs.field(factory=list)
    acks: list[int] = attrs.field(factory=list)  # packet ids of PUBACKs, in order
    pubrecs: list[int] = attrs.field(factory=list)  # the same of PUBRECs, which nothing answers
    pubcomps: list[int] = attrs.field(factory=list)
    filters: list[tuple[str, int]] = attrs.field(factory=list)  # (topic filter, QoS) of SUBSCRIBE
    unsubscribed: list[str] = attrs.field(factory=list)
    published: list[tuple[bytes, bytes]] = attrs.field(factory=list)  # (topic, payload) that the client published
    pings: int = 0
    said_goodbye: bool = False  # DISCONNECT came
    subscribed: trio.Event = attrs.field(factory=trio.Event)
    closed: trio.Event = attrs.field(factory=trio.Event)
    _changed: trio.Event = attrs.field(factory=trio.Event)
    _buffer: bytearray = attrs.field(factory=bytearray)
    _sending: trio.Lock = attrs.field(factory=trio.Lock)

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until something received makes it true."""
        with trio.fail_after(60):
            while not condition():
                await self._changed.wait()

    async def publish(
        self,
        topic: bytes,
        payload: bytes,
        *,
        qos: int = 0,
        packet_id: int = 0,
        dup: bool = False,
        retain: bool = False,
        properties: bytes = b"",
    ) -> None:
        await self.send(
            self.publish_bytes(topic, payload, qos, packet_id, dup=dup, retain=retain, properties=properties)
        )

    def publish_bytes(
        self,
        topic: bytes,
        payload: bytes,
        qos: int,
        packet_id: int,
        *,
        dup: bool = False,
        retain: bool = False,
        properties: bytes = b"",
    ) -> bytes:
        body = text(topic)
        if qos:
            body += struct.pack("!H", packet_id)
        if self.broker.protocol == 5:
            body += bytes([len(properties)]) + properties
        return packet(PUBLISH, body + payload, dup << 3 | qos << 1 | retain)

    async def send(self, data: bytes) -> None:
        async with self._sending:
            await self.stream.send_all(data)

    async def disconnect(self, code: int) -> None:
        """MQTT 5: DISCONNECT with a reason code, then close."""
        await self.send(packet(DISCONNECT, bytes([code, 0])))
        await self.stream.aclose()

    async def serve(self) -> None:
        try:
            async for chunk in self.stream:
                self._buffer += chunk
                for one in self._packets():
                    self.received.append(one)
                    await self._answer(one)
                    self._note()
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass
        finally:
            self.closed.set()
            self._note()

    def _note(self) -> None:
        self._changed.set()
        self._changed = trio.Event()

    def _packets(self) -> list[Packet]:
        found = []
        while len(self._buffer) >= 2:
            size, at, shift = 0, 1, 0
            while at < len(self._buffer):
                digit = self._buffer[at]
                size |= (digit & 127) << shift
                at, shift = at + 1, shift + 7
                if digit < 128:
                    break
            else:
                break
            if len(self._buffer) < at + size:
                break
            head = self._buffer[0]
            found.append(Packet(head >> 4, head & 15, bytes(self._buffer[at : at + size])))
            del self._buffer[: at + size]
        return found

    async def _answer(self, one: Packet) -> None:
        v5 = self.broker.protocol == 5
        if self.broker.forbids(one):
            self.broker.refused.append(one)
            await self.broker.ends(self)
            raise trio.ClosedResourceError
        match one.kind:
            case 1:
                if one.body[6] == 5 and self.broker.lacks_5:
                    self.broker.arrived(self)
                    if self.broker.lacks_5 == "says so":
                        await self.send(packet(CONNACK, b"\0\1"))
                    if self.broker.lacks_5 != "says nothing":
                        await self.stream.aclose()
                    return
                if self.broker.connack is not None:
                    has_properties = one.body[6] == 5
                    await self.send(packet(CONNACK, self.broker.connack[: None if has_properties else 2]))
                self.broker.arrived(self)
            case 3:
                topic_end = 2 + struct.unpack("!H", one.body[:2])[0]
                payload = one.body[topic_end + 2 + v5 :]
                self.published.append((one.body[2:topic_end], payload))
                self.broker.published.append(self.published[-1])
                await self._route(*self.published[-1])
                if self.broker.answers:
                    code = bytes([self.broker.puback]) if self.broker.puback else b""
                    await self.send(packet(PUBACK, one.body[topic_end : topic_end + 2] + code))
            case 4:
                self.acks.append(struct.unpack("!H", one.body[:2])[0])
            case 5:
                self.pubrecs.append(struct.unpack("!H", one.body[:2])[0])
            case 7:
                self.pubcomps.append(struct.unpack("!H", one.body[:2])[0])
            case 8:
                self.filters = [(name, options & 3) for name, options in _filters(one.body[2 + v5 :], options=True)]
                if self.broker.answers and self.broker.suback is not None:
                    codes = self.broker.suback or bytes(qos for _, qos in self.filters)
                    await self.send(packet(SUBACK, one.body[:2] + (b"\0" if v5 else b"") + codes))
                self.subscribed.set()
            case 10:
                self.unsubscribed = [name for name, _ in _filters(one.body[2 + v5 :], options=False)]
                await self.send(packet(UNSUBACK, one.body[:2] + (b"\0" + bytes(len(self.unsubscribed)) if v5 else b"")))
            case 12:
                self.pings += 1
                if self.broker.answers:
                    await self.send(packet(PINGRESP, b""))
            case 14:
                self.said_goodbye = True

    async def _route(self, topic: bytes, payload: bytes) -> None:
        for side in self.broker.sides:
            for number, (wanted, _) in enumerate(side.filters, 1):
                if self.broker.routes(wanted, topic.decode()):
                    await side.publish(topic, payload, qos=1, packet_id=number)


def _filters(body: bytes, *, options: bool) -> list[tuple[str, int]]:
    found, at = [], 0
    while at < len(body):
        end = at + 2 + struct.unpack("!H", body[at : at + 2])[0]
        found.append((body[at + 2 : end].decode(), body[end] if options else 0))
        at = end + options
    return found


@attrs.define(eq=False)
class ScriptedBroker:
    """Its fields may be changed at any time; they count for the next packet."""

    protocol: int  # 5 or 4 (3.1.1)
    port: int = 0
    connack: bytes | None = b""  # body of CONNACK; None: never answer
    puback: int = 0  # code of PUBACK
    suback: bytes | None = b""  # codes of SUBACK; empty: grant what was asked; None: never answer
    answers: bool = True  # False: silent after CONNACK
    forbids: Callable[[Packet], bool] = lambda _one: False  # it ends the connection instead of answering these
    ends: Callable[[BrokerSide], Awaitable[None]] = lambda side: side.stream.aclose()  # how
    routes: Callable[[str, str], bool] = lambda _filter, _topic: False  # what is published, to whom
    lacks_5: str = ""  # how it takes an MQTT 5 CONNECT that it does not know: "says so", "closes", "says nothing"
    published: list[tuple[bytes, bytes]] = attrs.field(factory=list)  # over all connections
    refused: list[Packet] = attrs.field(factory=list)  # as `forbids` says, over all connections
    sides: list[BrokerSide] = attrs.field(factory=list)  # open connections, also those that have not said CONNECT
    _waiting: list[BrokerSide] = attrs.field(factory=list)
    _came: trio.Event = attrs.field(factory=trio.Event)

    def accept(self, *, session_present: bool = False, code: int = 0, properties: bytes = b"") -> None:
        """How CONNECT is answered from now on."""
        tail = bytes([len(properties)]) + properties if self.protocol == 5 else b""
        self.connack = bytes([session_present, code]) + tail

    def arrived(self, side: BrokerSide) -> None:
        self._waiting.append(side)
        self._came.set()
        self._came = trio.Event()

    async def connected(self) -> BrokerSide:
        """The next connection that has sent CONNECT."""
        with trio.fail_after(60):
            while not self._waiting:
                await self._came.wait()
        return self._waiting.pop(0)

    async def hang_up(self) -> None:
        """Close every connection, as a broker does that stops."""
        for side in list(self.sides):
            await side.stream.aclose()

    @property
    def attempts_waiting(self) -> int:
        """Connections that nobody has taken by `connected`."""
        return len(self._waiting)


@asynccontextmanager
async def scripted_broker(*, protocol: int = 5) -> AsyncIterator[ScriptedBroker]:
    """Listens on a free port of 127.0.0.1."""
    broker = ScriptedBroker(protocol)
    broker.accept()

    async def handle(stream: trio.SocketStream) -> None:
        side = BrokerSide(stream, broker)
        broker.sides.append(side)
        async with stream:
            await side.serve()
        broker.sides.remove(side)

    async with trio.open_nursery() as nursery:
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        broker.port = listeners[0].socket.getsockname()[1]
        nursery.start_soon(trio.serve_listeners, handle, listeners)
        yield broker
        nursery.cancel_scope.cancel()
