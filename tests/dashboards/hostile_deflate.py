"""What hostile clients do with compression (RFC 7692): in the handshake, and in frames once it was agreed on.

A client that goes on with its window where each message was to begin anew is answered as one that sends garbage.
"""

from __future__ import annotations

import zlib

from tests.dashboards.hostile_frames import MAX_MESSAGE_BYTES, Talk, fragments, one, wrong
from tests.kit.websocket import BAD_DATA, BINARY, CLOSE, CONTINUATION, NORMAL, PING, PONG, TEXT, TOO_BIG, close, frame

RSV1 = 4
TAIL = b"\x00\x00\xff\xff"


def message_of(data: bytes, level: int = 9) -> bytes:
    """The payload of a message."""
    compressor = zlib.compressobj(level, wbits=-15)
    return (compressor.compress(data) + compressor.flush(zlib.Z_SYNC_FLUSH)).removesuffix(TAIL)


def deflated(data: bytes, opcode: int = TEXT, level: int = 9) -> bytes:
    """One compressed message in one frame."""
    return frame(opcode, message_of(data, level), rsv=RSV1)


def pieces(opcode: int, *payloads: bytes) -> tuple[bytes, ...]:
    """A compressed message in fragments, a frame each."""
    first, *others = fragments(opcode, *payloads)
    return (bytes([first[0] | RSV1 << 4]) + first[1:], *others)


def going_on(*messages: bytes) -> bytes:
    """Compressed messages of a client that keeps its window."""
    compressor = zlib.compressobj(wbits=-15)
    return b"".join(
        frame(TEXT, (compressor.compress(data) + compressor.flush(zlib.Z_SYNC_FLUSH)).removesuffix(TAIL), rsv=RSV1)
        for data in messages
    )


HELLO = deflated(b"hello")
CALM = frame(PING, b"calm")  # still there?
LONG = b"nothing here is JSON, and nothing here is said twice but this: "
ZEROS = message_of(bytes(3_000_000))  # 3 kB

LEGAL: dict[str, Talk] = {
    "text": one(HELLO, "bad_json"),
    "binary": one(deflated(b"hello", BINARY), "bad_request"),
    "plain between": one(HELLO + frame(TEXT, b"hello") + HELLO, "bad_json", "bad_json", "bad_json"),
    "100 messages": one(HELLO * 100, *["bad_json"] * 100),
    "one byte at a time": Talk(
        tuple(bytes([byte]) for byte in HELLO + CALM), or_seen=("bad_json", b"calm"), seen=(b"calm", "bad_json")
    ),
    "not compressed within": one(deflated(b"hello", level=0), "bad_json"),
    "no payload": one(frame(TEXT, rsv=RSV1), "bad_json"),
    "an empty message": one(deflated(b""), "bad_json"),
    "an empty last block": one(frame(TEXT, b"\x03\x00", rsv=RSV1), "bad_json"),
    "an empty last block, and what belongs behind it": one(frame(TEXT, b"\x03\x00\x00", rsv=RSV1), "bad_json"),
    "a last block": one(frame(TEXT, zlib.compress(b"hello", 9, -15) + b"\x00", rsv=RSV1), "bad_json"),
    "last blocks": one(frame(TEXT, zlib.compress(b"hello", 9, -15) * 10 + b"\x00", rsv=RSV1), "bad_json"),
    "1,000 empty blocks": one(frame(TEXT, (b"\x00" + TAIL) * 1000 + message_of(b"x"), rsv=RSV1), "bad_json"),
    "2,000 empty last blocks": one(frame(TEXT, b"\x03\x00" * 2000, rsv=RSV1), "bad_json"),
    "fragments": Talk(pieces(TEXT, *(bytes([byte]) for byte in message_of(b"hello"))), ("bad_json",)),
    "empty fragments": Talk((b"".join(pieces(TEXT, b"", b"", message_of(b"x"), b"", b"")),), ("bad_json",)),
    "pings between fragments": one(
        CALM.join(pieces(TEXT, *(bytes([byte]) for byte in message_of(b"abc")))), *[b"calm"] * 4, "bad_json"
    ),
    "a code point across fragments": Talk(
        pieces(TEXT, *[message_of(b"\xe2") + TAIL, message_of(b"\x82\xac")]), ("bad_json",)
    ),
    "as long as allowed": one(deflated(b"x" * MAX_MESSAGE_BYTES), "bad_json"),
    "4,000 brackets": one(deflated(b"[" * 4000), "bad_json"),
    "as long as allowed, again and again": one(deflated(b"x" * MAX_MESSAGE_BYTES) * 50, *["bad_json"] * 50),
    "a window that was kept, and not looked back into": one(going_on(b"abc", b"xyz"), "bad_json", "bad_json"),
}

BAD: dict[str, Talk] = {
    "the bit on a continuation": wrong(frame(TEXT, b"", rsv=RSV1, fin=False), frame(CONTINUATION, b"\x00", rsv=RSV1)),
    "the bit on a continuation only": wrong(frame(TEXT, b"x", fin=False), frame(CONTINUATION, b"\x00", rsv=RSV1)),
    "the bit on nothing to continue": wrong(frame(CONTINUATION, b"\x00", rsv=RSV1)),
    **{f"the bit on {n:#x}": wrong(frame(n, rsv=RSV1)) for n in (CLOSE, PING, PONG)},
    **{f"reserved bits {n}": wrong(frame(TEXT, message_of(b"{}"), rsv=n)) for n in (1, 2, 3, 5, 6, 7)},
    "a message in a message": wrong(frame(TEXT, message_of(b"a"), rsv=RSV1, fin=False), HELLO),
    "a plain message in a message": wrong(frame(TEXT, message_of(b"a"), rsv=RSV1, fin=False), frame(TEXT, b"b")),
    "not masked": wrong(frame(TEXT, message_of(b"x"), rsv=RSV1, masked=False)),
    "not deflated": wrong(frame(TEXT, b'{"event": "list_races"}', rsv=RSV1), code=BAD_DATA),
    "0xff": wrong(frame(TEXT, b"\xff" * 100, rsv=RSV1), code=BAD_DATA),
    "with a head of zlib": wrong(frame(TEXT, zlib.compress(LONG), rsv=RSV1), code=BAD_DATA),
    "with a head of gzip": wrong(frame(TEXT, zlib.compress(LONG, wbits=31), rsv=RSV1), code=BAD_DATA),
    "cut off": wrong(frame(TEXT, message_of(LONG)[:20], rsv=RSV1), code=BAD_DATA),
    "cut off, not compressed within": wrong(frame(TEXT, message_of(LONG, 0)[:20], rsv=RSV1), code=BAD_DATA),
    "wrong in the second fragment": wrong(*pieces(TEXT, message_of(b"x")[:1], b"\xff" * 100), code=BAD_DATA),
    "deflated, then not": Talk((HELLO, frame(TEXT, b"\xff" * 100, rsv=RSV1)), ("bad_json", BAD_DATA), (BAD_DATA,)),
    "not UTF-8": wrong(deflated(b"\xff"), code=BAD_DATA),
    "cut off in a code point": wrong(deflated(b"x\xe2\x82"), code=BAD_DATA),
    "a window that was kept": Talk((going_on(LONG, LONG),), ("bad_json", BAD_DATA), or_seen=(BAD_DATA,)),
    "a byte too long": wrong(deflated(b"x" * (MAX_MESSAGE_BYTES + 1)), code=TOO_BIG),
    "a byte too long, binary": wrong(deflated(bytes(MAX_MESSAGE_BYTES + 1), BINARY), code=TOO_BIG),
    "a byte too long in UTF-8": wrong(deflated("ü".encode() * (MAX_MESSAGE_BYTES // 2) + b"x"), code=TOO_BIG),
    "a bomb": wrong(frame(TEXT, ZEROS, rsv=RSV1), code=TOO_BIG),
    "a bomb, binary": wrong(frame(BINARY, ZEROS, rsv=RSV1), code=TOO_BIG),
    "a bomb in fragments": wrong(*pieces(TEXT, *(ZEROS[at : at + 100] for at in range(0, 1000, 100))), code=TOO_BIG),
    "bombs": wrong(frame(TEXT, ZEROS, rsv=RSV1) * 20, code=TOO_BIG),
    "a bomb, then a close": wrong(frame(TEXT, ZEROS, rsv=RSV1), close(NORMAL), code=TOO_BIG),
    "half a message": Talk((HELLO[:-1],), open_frame=True),
}

COMPRESSED = LEGAL | BAD
