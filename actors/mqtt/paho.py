"""paho, with the things changed that were found wanting. paho 2.2 is pinned for it: everything of its inside that we
use is in this file. Used by the driver's thread only.

- It reads and writes through a socket of ours, already connected.
- PUBLISH is taken apart by us: most before paho sees them (mqtt/splitter.py), here the rest. paho would build a
  `Properties` object a message (half of its time), and refuses properties that brokers pass on, U+FEFF in a user
  property for one: a single such message, sent again after each reconnect, would stop everything for ever. An empty
  topic, a packet id 0 and a topic that is not UTF-8 pass, too.
- QoS 2 (we subscribe at QoS 1, but some brokers deliver what was published at QoS 2 as such) is PUBREC'ed by us, when
  it is durable, as QoS 1 is PUBACK'ed; PUBREL is answered with PUBCOMP, whatever its packet id. paho would keep the
  message until PUBREL, and say PUBREC at once.
- A missing PINGRESP can be forgiven.
- Its callbacks only note what happened; what follows from it is done by the owner, after paho has returned.
"""

from __future__ import annotations

import struct

import attrs
from paho.mqtt import MQTTException
from paho.mqtt import client as mqtt
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from actors.mqtt.socket import BufferedSocket
from actors.mqtt.splitter import AT_QOS_2, Arrivals, variable_integer
from actors.settings.load import MqttSettings, Secret

PAHO_ERRORS = (
    MQTTException,  # MalformedPacket too
    struct.error,  # packets cut short
    IndexError,
    KeyError,  # reason codes that nobody has defined
    ValueError,  # UnicodeDecodeError too
    TypeError,
    AttributeError,
    OSError,  # BlockingIOError and ssl.SSLError too
)
"""What paho may raise on what a broker sends (the decoders of paho/mqtt/_packet.py and what they call)."""


@attrs.define(eq=False)
class Notes:
    """What paho's callbacks have seen and the owner has not looked at yet."""

    connack: tuple[bool, ReasonCode, Properties | None] | None = None  # session present, reason, properties
    subacks: list[tuple[int, list[ReasonCode]]] = attrs.field(factory=list)  # packet id of SUBSCRIBE, a code a topic
    unsubacks: list[int] = attrs.field(factory=list)  # packet ids of UNSUBSCRIBE
    pubacks: list[tuple[int, ReasonCode]] = attrs.field(factory=list)  # packet id of ours, reason


class PahoClient(mqtt.Client):
    """One connection's paho. Incoming messages are appended to `arrivals`, whose owner takes and empties it."""

    def __init__(
        self,
        sock: BufferedSocket,
        arrivals: Arrivals,
        settings: MqttSettings,
        username: str,
        password: Secret,
        *,
        clean: bool = False,
    ) -> None:
        """`clean`: a new session, which ends with the connection."""
        is_v5 = settings.protocol != "3.1.1"
        super().__init__(
            CallbackAPIVersion.VERSION2,
            client_id=settings.client_id,
            clean_session=None if is_v5 else clean,
            protocol=mqtt.MQTTv5 if is_v5 else mqtt.MQTTv311,
            reconnect_on_failure=False,  # or it would fall back to MQTT 3.1 by itself
            manual_ack=True,
        )
        if username or password:
            self.username_pw_set(username, password.reveal() or None)
        self.notes: Notes | None = None
        self.farewell: ReasonCode | None = None  # the broker's DISCONNECT
        self.unanswered = False  # ended because no PINGRESP came
        self._settings = settings
        self._ours = sock
        self._arrivals = arrivals
        self._is_v5 = is_v5
        self._clean = clean
        # Without it paho writes from wherever it is, each packet by itself.
        self.on_socket_register_write = lambda *_: None
        self.on_connect = self._note_connack
        self.on_subscribe = self._note_suback
        self.on_unsubscribe = self._note_unsuback
        self.on_publish = self._note_puback
        self.on_disconnect = self._note_disconnect

    def open(self, host: str, port: int) -> None:
        """Begin with CONNECT, for the session that the client_id has at the broker, or for a clean one."""
        wanted = self._settings
        if self._is_v5:
            properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]  # paho does not type it
            properties.SessionExpiryInterval = 0 if self._clean else wanted.session_expiry_s
            properties.ReceiveMaximum = wanted.receive_maximum
            self.connect(host, port, wanted.keepalive_s, clean_start=self._clean, properties=properties)
        else:
            self.connect(host, port, wanted.keepalive_s)

    @property
    def inside_packet(self) -> bool:
        """A packet has begun to come, and not ended."""
        return bool(self._in_packet["command"])

    def forgive_ping(self) -> None:
        """Do not count a PINGREQ that is not answered yet."""
        self._ping_t = 0.0

    def _create_socket(self) -> BufferedSocket:
        return self._ours

    def _handle_publish(self) -> MQTTErrorCode:
        """MQTT 3.1.1 and 5, section 3.3."""
        packet = bytes(self._in_packet["packet"])
        qos = (self._in_packet["command"] >> 1) & 3
        if qos == 3:
            return MQTTErrorCode.MQTT_ERR_PROTOCOL
        at = 2 + (packet[0] << 8 | packet[1])  # IndexError, here and below: cut short
        topic = packet[2:at]
        packet_id = 0
        if qos:
            packet_id = packet[at] << 8 | packet[at + 1]
            at += 2
        if self._is_v5:
            length, at = variable_integer(packet, at)
            if not at:
                return MQTTErrorCode.MQTT_ERR_PROTOCOL
            at += length
        if at > len(packet):
            return MQTTErrorCode.MQTT_ERR_PROTOCOL
        self._arrivals.messages.append((topic, packet[at:]))
        self._arrivals.packet_ids.append(packet_id + AT_QOS_2 if qos == 2 and packet_id else packet_id)
        return MQTTErrorCode.MQTT_ERR_SUCCESS

    def _handle_pubrel(self) -> MQTTErrorCode:
        packet = self._in_packet["packet"]
        return self._send_pubcomp(packet[0] << 8 | packet[1])

    def _noting(self) -> Notes:
        if self.notes is None:
            self.notes = Notes()
        return self.notes

    def _note_connack(
        self, _: mqtt.Client, _data: object, flags: mqtt.ConnectFlags, reason: ReasonCode, props: Properties | None
    ) -> None:
        self._noting().connack = (flags.session_present, reason, props)

    def _note_suback(
        self, _: mqtt.Client, _data: object, packet_id: int, reasons: list[ReasonCode], _props: Properties | None
    ) -> None:
        self._noting().subacks.append((packet_id, reasons))

    def _note_unsuback(
        self, _: mqtt.Client, _data: object, packet_id: int, _reasons: list[ReasonCode], _props: Properties | None
    ) -> None:
        self._noting().unsubacks.append(packet_id)

    def _note_puback(
        self, _: mqtt.Client, _data: object, packet_id: int, reason: ReasonCode, _props: Properties
    ) -> None:
        self._noting().pubacks.append((packet_id, reason))

    def _note_disconnect(
        self, _: mqtt.Client, _data: object, flags: mqtt.DisconnectFlags, reason: ReasonCode, _props: Properties | None
    ) -> None:
        if flags.is_disconnect_packet_from_server:
            self.farewell = reason
        elif reason == "Keep alive timeout":
            self.unanswered = True
