"""permessage-deflate for what a dashboard sends, as an extension of wsproto under the WebSocket library.

Its own one inflates whatever comes, 4 MB for 4 kB that were received, and takes the rest of a message for plain when a
ping came in the middle. What we send is deflated in dashboards/frames.py, beside the library.
"""

from __future__ import annotations

from collections.abc import Callable

from wsproto.extensions import Extension
from wsproto.frame_protocol import CloseReason, FrameDecoder, FrameProtocol, Opcode, RsvBits

from actors.dashboards.deflate import NAME, BadDeflate, Inflation, TooLong

_MINE = RsvBits(True, False, False)


class PerMessageDeflate(Extension):
    """Of one WebSocket that has agreed on it, with `client_no_context_takeover`."""

    name = NAME

    def __init__(self, max_message_bytes: int) -> None:
        self._most = max_message_bytes
        self._message: Inflation | None = None  # that comes in and is compressed
        self._control = False  # the frame that comes in is between others of the message, not part of it

    def enabled(self) -> bool:
        """As wsproto's."""
        return True

    def offer(self) -> bool:
        """As wsproto's; for clients."""
        return False

    def frame_inbound_header(
        self, proto: FrameDecoder | FrameProtocol, opcode: Opcode, rsv: RsvBits, payload_length: int
    ) -> CloseReason | RsvBits:
        """As wsproto's. The bit is on the first frame of a message (RFC 7692 section 6)."""
        self._control = opcode.iscontrol()
        if opcode in (Opcode.TEXT, Opcode.BINARY):
            self._message = Inflation(self._most) if rsv.rsv1 else None
        elif rsv.rsv1:
            return CloseReason.PROTOCOL_ERROR
        return _MINE

    def frame_inbound_payload_data(self, proto: FrameDecoder | FrameProtocol, data: bytes) -> bytes | CloseReason:
        """As wsproto's."""
        if self._message is None or self._control:
            return data
        message = self._message
        return _or_reason(lambda: message.feed(data))

    def frame_inbound_complete(self, proto: FrameDecoder | FrameProtocol, fin: bool) -> bytes | CloseReason | None:
        """As wsproto's."""
        if self._message is None or self._control or not fin:
            return None
        message, self._message = self._message, None
        return _or_reason(message.finish)


def _or_reason(inflate: Callable[[], bytes]) -> bytes | CloseReason:
    try:
        return inflate()
    except BadDeflate:
        return CloseReason.INVALID_FRAME_PAYLOAD_DATA
    except TooLong:
        return CloseReason.MESSAGE_TOO_BIG
