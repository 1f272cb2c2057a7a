"""The client's side of a WebSocket (RFC 6455, RFC 7692), byte by byte: what libraries would not send, or not show."""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterable, Iterator

import trio

from tests.kit.tokens import token

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10
NORMAL, PROTOCOL_ERROR, BAD_DATA, TOO_BIG = 1000, 1002, 1007, 1009
MASK = b"\x5a\xa5\x00\xff"
LAST = 0x80
"""FIN, beside the opcode: the last or only fragment of a message."""
DEFLATED = 0x40
"""RSV1, beside the opcode: a compressed message."""
OFFER = "permessage-deflate; client_max_window_bits"  # of compression, as browsers make it

KEY = "dGhlIHNhbXBsZSBub25jZQ=="
ACCEPT = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="  # the answer to it, from the RFC
UPGRADE = {
    "Host": "tracking.example",
    "Upgrade": "websocket",
    "Connection": "keep-alive, Upgrade",
    "Sec-WebSocket-Key": KEY,
    "Sec-WebSocket-Version": "13",
}
HEAD_END = b"\r\n\r\n"


def request(target: str = "/tracking", *more: str, line: str = "", **fields: str | None) -> bytes:
    """An upgrade with a good token, changed by `fields`: `_` for `-`, None leaves one out. `more` are further lines."""
    if "Authorization" not in fields:
        fields["Authorization"] = f"Bearer {token()}"
    merged: dict[str, str | None] = {**UPGRADE, **{name.replace("_", "-"): value for name, value in fields.items()}}
    lines = [line or f"GET {target} HTTP/1.1", *(f"{k}: {v}" for k, v in merged.items() if v is not None), *more]
    return "\r\n".join(lines).encode("latin-1") + HEAD_END


def frame(
    opcode: int, payload: bytes = b"", *, fin: bool = True, rsv: int = 0, masked: bool = True, size: bytes | int = -1
) -> bytes:
    """One frame of a client. `size`: a length other than the payload's, as number or in the bytes of its encoding."""
    number = len(payload) if isinstance(size, bytes) or size < 0 else size
    if not isinstance(size, bytes):
        if number < 126:
            size = bytes([number])
        else:
            size = b"\x7e" + number.to_bytes(2, "big") if number < 1 << 16 else b"\x7f" + number.to_bytes(8, "big")
    head = bytes([fin << 7 | rsv << 4 | opcode, masked << 7 | size[0]]) + size[1:]
    return head + _mask(payload) if masked else head + payload


def _mask(payload: bytes) -> bytes:
    size = len(payload)
    mask = (MASK * (size // 4 + 1))[:size]
    return MASK + (int.from_bytes(payload, "big") ^ int.from_bytes(mask, "big")).to_bytes(size, "big")


def close(code: int, reason: bytes = b"") -> bytes:
    """A frame that ends the connection."""
    return frame(CLOSE, code.to_bytes(2, "big") + reason)


def close_code(payload: bytes) -> int:
    """Of a close frame; 0 when it has none."""
    return int.from_bytes(payload[:2], "big")


def frames(data: memoryview) -> Iterator[tuple[int, int, int]]:
    """(opcode, where its payload starts, where it ends) of each whole frame of a server that sends small messages: in
    one piece, DEFLATED perhaps.
    """
    for first, start, end in fragments(data):
        assert first & LAST, "in pieces"
        yield first & 0x4F, start, end


def fragments(data: memoryview) -> Iterator[tuple[int, int, int]]:
    """(first byte, where its payload starts, where it ends) of each whole frame of a server, not masked."""
    start, size = 2, len(data)
    while start <= size:
        at = start - 2
        assert not data[at] & 0x30, "an extension that there is not"
        length = data[at + 1]
        assert length < 0x80, "masked"
        if length >= 126:
            start += 2 if length == 126 else 8
            if start > size:
                return
            length = int.from_bytes(data[at + 2 : start], "big")
        end = start + length
        if end > size:
            return
        yield data[at], start, end
        start = end + 2


def inflated(payload: bytes) -> bytes:
    """What a compressed message says that refers to none before it."""
    return zlib.decompressobj(-15).decompress(payload + b"\x00\x00\xff\xff")


def texts_of(sent: Iterable[bytes]) -> list[bytes]:
    """What frames of a server say, some of which may be fragments of a text."""
    found, parts, deflated = list[bytes](), list[bytes](), False
    for whole in sent:
        [(first, start, end)] = fragments(memoryview(whole))
        assert end == len(whole)
        assert first & 0x0F == (CONTINUATION if parts else TEXT)
        deflated = deflated or first & DEFLATED > 0
        parts.append(whole[start:])
        if first & LAST:
            found.append(inflated(b"".join(parts)) if deflated else b"".join(parts))
            parts, deflated = [], False
    assert not parts
    return found


def text_of(whole: bytes) -> bytes:
    """What one frame of a server says."""
    [text] = texts_of([whole])
    return text


class RawSocket:
    """A client without manners: any bytes go out, and what comes back is taken apart frame by frame."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self.stream = stream
        self._writing = trio.Lock()
        self.unread = b""  # not taken apart yet
        self.extensions: str | None = None  # that were agreed on
        self.compressed = False  # the text that came last was
        self._text: list[bytes] = []  # the fragments of a text that has begun

    async def open(self, head: bytes) -> int:
        """Send the request; the status of the answer, 0 when there was none."""
        await self.write(head)
        while HEAD_END not in self.unread:
            if not await self.read_some():
                return 0
        answer, _, self.unread = self.unread.partition(HEAD_END)
        agreed = re.search(rb"\r\nsec-websocket-extensions: ([^\r]+)", answer, re.IGNORECASE)
        assert agreed is None or b"permessage-deflate" in head, "an answer without an offer"
        self.extensions = agreed and agreed[1].decode()
        status = int(answer.split(b" ")[1])
        assert status != 101 or KEY.encode() not in head or ACCEPT.encode() in answer
        return status

    async def write(self, *parts: bytes) -> None:
        """A write each. Several tasks may write: one that reads answers pings and the close."""
        try:
            async with self._writing:
                for part in parts:
                    await self.stream.send_all(part)
        except trio.BrokenResourceError:
            pass  # the server had enough; what it said can still be read

    async def frame(self) -> tuple[int, bytes] | None:
        """Opcode and payload of the next one, or the next text as a whole, inflated. None: there is no other; in
        `unread` may be half of one.
        """
        while True:
            while (found := next(fragments(memoryview(self.unread)), None)) is None:
                if not await self.read_some():
                    return None
            first, start, end = found
            opcode, payload, self.unread = first & 0x0F, self.unread[start:end], self.unread[end:]
            if opcode > BINARY:
                assert first & 0xF0 == LAST
                return opcode, payload
            assert opcode == (CONTINUATION if self._text else TEXT)
            if opcode == TEXT:
                self.compressed = first & DEFLATED > 0
                assert not self.compressed or self.extensions is not None, "this was not agreed on"
            self._text.append(payload)
            if first & LAST:
                whole, self._text = b"".join(self._text), []
                return TEXT, inflated(whole) if self.compressed else whole

    async def read_some(self) -> bool:
        """Take what is there, at least a byte, for `frame` to look at; False: the server has closed."""
        try:
            data = await self.stream.receive_some(65536)
        except trio.BrokenResourceError:
            return False
        self.unread += data
        return bool(data)
