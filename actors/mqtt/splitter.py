"""PUBLISH packets, taken out of the broker's bytes before paho sees them: 1 µs a message instead of 30.

Everything else goes to paho as it came, in order, and so does a PUBLISH that is not what MQTT says: paho ends the
connection over it, and says why. Pure: bytes in, messages and bytes out.
"""

from __future__ import annotations

import attrs

PUBLISH = 0x30  # MQTT 5 section 2.1.2: the upper half of the first byte
QOS, QOS_1, QOS_2 = 0x06, 0x02, 0x04  # in the lower half; QoS 3 is forbidden

USUAL = PUBLISH | QOS_1
"""Not retained, no duplicate, and then without properties: taken in two thirds of the time."""

MAX_PACKET_ID = 0xFFFF
AT_QOS_2 = MAX_PACKET_ID + 1
"""Added, inside the daemon, to the packet id of a message that came at QoS 2: it is acknowledged in another way."""


@attrs.define(eq=False)
class Arrivals:
    """Messages taken from the broker that nobody has taken from here yet."""

    messages: list[tuple[bytes, bytes]] = attrs.field(factory=list)  # (topic, payload)
    packet_ids: list[int] = attrs.field(factory=list)  # one a message; 0: not to be acknowledged; or + AT_QOS_2


@attrs.define(eq=False)
class Splitter:
    """Of one connection. `plain` leaves every packet to paho."""

    arrivals: Arrivals
    is_v5: bool
    plain: bool = False
    _parts: list[bytes] = attrs.field(factory=list)  # of a packet that is not complete
    _have: int = 0  # bytes in _parts
    _need: int = 0  # bytes that the packet has, as far as known

    @property
    def inside_packet(self) -> bool:
        """A packet has begun to come, and not ended."""
        return bool(self._parts)

    def split(self, data: bytes) -> bytes:
        """Take what the broker sent. Returns the bytes for paho, whole packets only."""
        if self.plain:
            return data
        if self._parts:
            self._parts.append(data)
            self._have += len(data)
            if self._have < self._need:
                return b""
            data = b"".join(self._parts)
            self._parts = []
        return self._split(data)

    def _split(self, data: bytes) -> bytes:
        others: list[bytes] = []
        messages, packet_ids = self.arrivals.messages, self.arrivals.packet_ids
        head = 5 if self.is_v5 else 4  # bytes of the usual variable header beside the topic
        at, end = 0, len(data)
        while at < end:
            start = at + 2
            length = data[at + 1] if start <= end else 128
            if length > 127 and start < end and data[start] < 128:  # two bytes, as most have: without a call
                length += (data[start] << 7) - 128
                start += 1
            elif length > 127:
                length, start = variable_integer(data, at + 1)
                if length < 0:  # it is longer than MQTT allows: for paho to find out
                    self.plain = True
                    others.append(data[at:])
                    break
            stop = start + length
            if not start or stop > end:
                self._parts, self._have = [data[at:]], end - at
                self._need = stop - at if start else self._have + 1
                break
            if data[at] == USUAL and length >= head:
                body = start + 2
                topic_end = body + (data[start] << 8 | data[start + 1])
                after = topic_end + head - 2
                if after <= stop and (head == 4 or not data[after - 1]):
                    messages.append((data[body:topic_end], data[after:stop]))
                    packet_ids.append(data[topic_end] << 8 | data[topic_end + 1])
                    at = stop
                    continue
            if data[at] & 0xF0 != PUBLISH or not self._take(data, at, start, stop):
                others.append(data[at:stop])
            at = stop
        return b"".join(others)

    def _take(self, data: bytes, at: int, start: int, stop: int) -> bool:
        """One PUBLISH, MQTT 5 and 3.1.1 section 3.3. False when it is malformed."""
        body = start + 2
        if body > stop:
            return False
        topic_end = body + (data[start] << 8 | data[start + 1])
        packet_id = 0
        after = topic_end
        qos = data[at] & QOS
        if qos:
            after += 2
            if after > stop:
                return False
            packet_id = data[topic_end] << 8 | data[topic_end + 1]
            if qos != QOS_1:
                if qos != QOS_2:
                    return False
                packet_id += AT_QOS_2 if packet_id else 0
        if self.is_v5:
            if after >= stop:
                return False
            properties = data[after]
            after += 1
            if properties > 127:
                properties, after = variable_integer(data, after - 1)
                if properties < 0 or not after:
                    return False
            after += properties
        if after > stop:
            return False
        arrivals = self.arrivals
        arrivals.messages.append((data[body:topic_end], data[after:stop]))
        arrivals.packet_ids.append(packet_id)
        return True


def variable_integer(data: bytes, at: int) -> tuple[int, int]:
    """A variable byte integer (MQTT 5 section 1.5.5) and where it ends; (0, 0) when it is not complete, (-1, 0) when
    it has more than 4 bytes."""
    value = 0
    for shift in (0, 7, 14, 21):
        if at >= len(data):
            return 0, 0
        byte = data[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at
    return -1, 0
