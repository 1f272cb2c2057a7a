"""What hostile clients send after a good handshake, and what they have to get for it (RFC 6455)."""

from __future__ import annotations

import attrs

from tests.kit.websocket import (
    BAD_DATA,
    BINARY,
    CLOSE,
    CONTINUATION,
    NORMAL,
    PING,
    PONG,
    PROTOCOL_ERROR,
    TEXT,
    TOO_BIG,
    close,
    frame,
)

MAX_MESSAGE_BYTES = 4096  # of the site that these are for

Seen = bytes | str | int
"""One frame from the server: the payload of a pong, the code of an `error` event, the code of a close (0: none)."""


def text(payload: bytes) -> bytes:
    return frame(TEXT, payload)


def fragments(opcode: int, *payloads: bytes) -> tuple[bytes, ...]:
    """A message in pieces, a frame each."""
    last = len(payloads) - 1
    return tuple(frame(CONTINUATION if n else opcode, part, fin=n == last) for n, part in enumerate(payloads))


@attrs.frozen
class Talk:
    """What is sent after the handshake, a write each, and what has to come back, in order.

    When that does not end with a close, the client sends one (1000) afterwards, which has to be answered with the same.
    """

    sent: tuple[bytes, ...]
    seen: tuple[Seen, ...] = ()
    or_seen: tuple[Seen, ...] | None = None  # as good
    open_frame: bool = False  # it ends in the middle of a frame: no close can follow


def one(sent: bytes, *seen: Seen) -> Talk:
    """All in one write."""
    return Talk((sent,), seen)


def wrong(*sent: bytes, code: int = PROTOCOL_ERROR) -> Talk:
    """The connection is failed with this code and no answer. A ping goes along that must not be answered any more."""
    return Talk((b"".join(sent) + frame(PING, b"late"),), (code,))


HELLO = text(b"hello")
CALM = frame(PING, b"calm")  # still there?

BAD_FRAMES: dict[str, Talk] = {
    "text, not masked": wrong(frame(TEXT, b"hello", masked=False)),
    "binary, not masked": wrong(frame(BINARY, b"hello", masked=False)),
    "ping, not masked": wrong(frame(PING, b"hello", masked=False)),
    "close, not masked": wrong(frame(CLOSE, b"\x03\xe8", masked=False)),
    "a ping, then not masked": one(CALM + frame(TEXT, b"hello", masked=False), b"calm", PROTOCOL_ERROR),
    "0xff": wrong(b"\xff" * 1000),
    "a second upgrade": wrong(b"GET /tracking HTTP/1.1\r\nUpgrade: websocket\r\n\r\n"),
    "TLS hello": wrong(bytes.fromhex("16030100c8010000c40303") + bytes(200)),
    **{f"opcode {n:#x}": wrong(frame(n, b"x")) for n in (3, 4, 5, 6, 7, 11, 12, 13, 14, 15)},
    **{f"reserved bits {n}": wrong(frame(TEXT, b"{}", rsv=n)) for n in range(1, 8)},
    "reserved bit on a ping": wrong(frame(PING, b"x", rsv=4)),
    "reserved bit on a continuation": wrong(frame(TEXT, b"x", fin=False), frame(CONTINUATION, b"x", rsv=4)),
    "ping in fragments": wrong(*fragments(PING, b"a", b"b")),
    "pong in fragments": wrong(*fragments(PONG, b"a", b"b")),
    "close in fragments": wrong(*fragments(CLOSE, b"\x03", b"\xe8")),
    "a ping of 126 bytes": wrong(frame(PING, bytes(126))),
    "a ping of 64 kB": wrong(frame(PING, bytes(65_536))),
    "a pong of 126 bytes": wrong(frame(PONG, bytes(126))),
    "a ping of 2^62": wrong(frame(PING, size=1 << 62)),
    "a length of 2^63": wrong(frame(TEXT, size=1 << 63)),
    "a length of 2^64 - 1": wrong(frame(TEXT, size=(1 << 64) - 1)),
    "5 bytes, length in 2": wrong(frame(TEXT, b"hello", size=b"\x7e\x00\x05")),
    "5 bytes, length in 8": wrong(frame(TEXT, b"hello", size=b"\x7f" + (5).to_bytes(8, "big"))),
    "200 bytes, length in 8": wrong(frame(TEXT, b"x" * 200, size=b"\x7f" + (200).to_bytes(8, "big"))),
    "nothing, length in 2": wrong(frame(BINARY, size=b"\x7e\x00\x00")),
    "nothing to continue": wrong(frame(CONTINUATION, b"x")),
    "nothing to continue, unfinished": wrong(frame(CONTINUATION, b"x", fin=False)),
    "a message in a message": wrong(frame(TEXT, b"a", fin=False), HELLO),
    "binary in a text": wrong(frame(TEXT, b"a", fin=False), frame(BINARY, b"b")),
}

BAD_TEXTS: dict[str, Talk] = {
    "a stray continuation byte": wrong(text(b"\x80"), code=BAD_DATA),
    "a code point cut off": wrong(text(b"x\xe2\x82"), code=BAD_DATA),
    "a code point across fragments": Talk(fragments(TEXT, b"\xe2", b"\x82", b"\xac"), ("bad_json",)),
    "bad across fragments": Talk(
        (frame(TEXT, b"\xe2", fin=False), frame(CONTINUATION, b"\x28", fin=False)), (BAD_DATA,)
    ),
    "cut off across fragments": Talk(fragments(TEXT, b"\xe2", b"\x82"), (BAD_DATA,)),
    "a surrogate": wrong(text(b"\xed\xa0\x80"), code=BAD_DATA),
    "beyond Unicode": wrong(text(b"\xf4\x90\x80\x80"), code=BAD_DATA),
    "NUL": one(text(b"\x00"), "bad_json"),
    "a BOM": one(text(b"\xef\xbb\xbf{}"), "bad_json"),
    "4,000 brackets": one(text(b"[" * 4000), "bad_json"),
    "a number of 4,000 digits": one(text(b"9" * 4000), "bad_request"),
    "bytes that are not UTF-8, as binary": one(frame(BINARY, b"\xff\xfe"), "bad_request"),
}

BAD_SIZES: dict[str, Talk] = {
    "as long as allowed": one(text(b"x" * MAX_MESSAGE_BYTES), "bad_json"),
    "a byte longer": one(text(b"x" * (MAX_MESSAGE_BYTES + 1)), TOO_BIG),
    "a byte longer, binary": one(frame(BINARY, bytes(MAX_MESSAGE_BYTES + 1)), TOO_BIG),
    "a byte longer in UTF-8": one(text("ü".encode() * (MAX_MESSAGE_BYTES // 2) + b"x"), TOO_BIG),
    "as many characters, four times the bytes": one(text("\U0001f3c1".encode() * MAX_MESSAGE_BYTES), TOO_BIG),
    "a byte longer in fragments": Talk(fragments(TEXT, *[b"x" * 241] * 17), (TOO_BIG,)),
    "2 MB": one(text(b"x" * 2_000_000), TOO_BIG),
    "2 MB in fragments": Talk(fragments(TEXT, *[b"x" * 1000] * 2000), (TOO_BIG,)),
    "2^62 announced, little sent": Talk((frame(TEXT, b"x" * 100, size=1 << 62),), open_frame=True),
    "2^62 announced, enough sent": Talk((frame(TEXT, b"x" * 10_000, size=1 << 62),), (TOO_BIG,)),
    "too long, then a ping": wrong(text(b"x" * 5000), code=TOO_BIG),
    "too long, then pings": one(text(b"x" * 5000) + CALM * 1000, TOO_BIG),
    "too long, again and again": one(text(b"x" * 5000) * 20, TOO_BIG),
    "too long, then a wrong frame": one(text(b"x" * 5000) + frame(3), TOO_BIG),
    "too long, then a close": one(text(b"x" * 5000) + close(NORMAL), TOO_BIG),
    "half a header": Talk((b"\x81",), open_frame=True),
    "half a length": Talk((b"\x81\xff\x00\x00",), open_frame=True),
    "half a mask": Talk((b"\x81\x85\x00",), open_frame=True),
    "half a ping": Talk((frame(PING, b"hello")[:-1],), open_frame=True),
}

LEGAL: dict[str, Talk] = {
    "mask of zeros": one(b"\x81\x85\0\0\0\0hello", "bad_json"),
    "one byte at a time": Talk(
        tuple(bytes([byte]) for byte in HELLO + CALM), or_seen=("bad_json", b"calm"), seen=(b"calm", "bad_json")
    ),
    "1,000 empty fragments": Talk((b"".join(fragments(TEXT, *[b""] * 1000)),), ("bad_json",)),
    "pings between fragments": one(CALM.join(fragments(TEXT, b"a", b"b", b"c")), b"calm", b"calm", "bad_json"),
    "1,000 pings": one(CALM * 1000, *[b"calm"] * 1000),
    "1,000 pongs": one(frame(PONG, b"unasked") * 1000 + CALM, b"calm"),
    "100 messages": one(HELLO * 100, *["bad_json"] * 100),
}

CLOSES: dict[str, Talk] = {
    "a close of one byte": wrong(frame(CLOSE, b"x")),
    "a close of 126 bytes": wrong(frame(CLOSE, b"\x03\xe8" + bytes(124))),
    "a reason of bad UTF-8": wrong(close(NORMAL, b"\xff"), code=BAD_DATA),
    **{f"close code {n}": wrong(close(n)) for n in (0, 1, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, 65_535)},
    **{f"close code {n}, echoed": wrong(close(n), code=n) for n in (1001, 1012, 1013, 3000, 4000, 4401, 4999)},
    "no code": wrong(frame(CLOSE), code=0),
    "a reason": wrong(close(NORMAL, b"x" * 123), code=NORMAL),
    "a close in a message": wrong(frame(TEXT, b"a", fin=False), close(NORMAL), code=NORMAL),
    "two closes": wrong(close(NORMAL), close(1001), code=NORMAL),
    "a message after a close": wrong(close(NORMAL), HELLO, code=NORMAL),
    "garbage after a close": wrong(close(NORMAL), b"\xff" * 10_000, code=NORMAL),
    "2 MB after a close": wrong(close(NORMAL), text(b"x" * 2_000_000), code=NORMAL),
    "2 MB after a wrong frame": wrong(frame(3), text(b"x" * 2_000_000)),
}

FRAMES = BAD_FRAMES | BAD_TEXTS | BAD_SIZES | LEGAL | CLOSES
