"""The cases of the Autobahn test suite (github.com/crossbario/autobahn-testsuite), for a server that does not echo.

Where that expects an echo, an `error` answers here: bad_json to a text, bad_request to a binary message; what is over
max_message_bytes is closed with 1009 there (1.1.6 to 1.2.8, 7.1.6). Where it calls a missing echo before a failed
connection NON-STRICT, either will do here too (`or_seen`). In its 6.4 the client waits in the middle and expects to be
cut off before it goes on: here it does not go on. Left out are 9 and 10 (all over max_message_bytes) and 12 and 13
(compression: hostile_deflate.py).
"""

from __future__ import annotations

from tests.dashboards.hostile_frames import Seen, Talk, fragments, text
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

HELLO = text(b"Hello, world!")


def talk(*sent: bytes, seen: tuple[Seen, ...] = (), chop: int = 0) -> Talk:
    """`chop`: in writes of so many bytes; else each part in a write of its own."""
    if chop:
        whole = b"".join(sent)
        sent = tuple(whole[start : start + chop] for start in range(0, len(whole), chop))
    return Talk(sent, seen)


def failed(*sent: bytes, code: int = PROTOCOL_ERROR, after: tuple[Seen, ...] = (), chop: int = 0) -> Talk:
    """The connection is failed; `after` are answers to what came before, which need not get through."""
    strict = talk(*sent, seen=(*after, code), chop=chop)
    return Talk(strict.sent, strict.seen, or_seen=(code,))


def pinged(*sent: bytes) -> bytes:
    """All in one write, and a ping that must not be answered."""
    return b"".join(sent) + frame(PING)


SIZES = (0, 125, 126, 127, 128)
FRAMING = {
    **{f"1.1.{n}": talk(text(b"*" * size), seen=("bad_json",)) for n, size in enumerate(SIZES, 1)},
    **{f"1.2.{n}": talk(frame(BINARY, b"\xfe" * size), seen=("bad_request",)) for n, size in enumerate(SIZES, 1)},
    **{f"1.1.{n}": talk(text(b"*" * size), seen=(TOO_BIG,)) for n, size in ((6, 65_535), (7, 65_536))},
    **{f"1.2.{n}": talk(frame(BINARY, b"\xfe" * size), seen=(TOO_BIG,)) for n, size in ((6, 65_535), (7, 65_536))},
    "1.1.8": talk(text(b"*" * 65_536), seen=(TOO_BIG,), chop=997),
    "1.2.8": talk(frame(BINARY, b"\xfe" * 65_536), seen=(TOO_BIG,), chop=997),
}

TEN = [b"payload-%d" % n for n in range(10)]
PINGS = {
    "2.1": talk(frame(PING), seen=(b"",)),
    "2.2": talk(frame(PING, b"Hello, world!"), seen=(b"Hello, world!",)),
    "2.3": talk(frame(PING, b"\x00\xff\xfe\xfd\xfc\xfb\x00\xff"), seen=(b"\x00\xff\xfe\xfd\xfc\xfb\x00\xff",)),
    "2.4": talk(frame(PING, b"\xfe" * 125), seen=(b"\xfe" * 125,)),
    "2.5": failed(frame(PING, b"\xfe" * 126)),
    "2.6": talk(frame(PING, b"\xfe" * 125), seen=(b"\xfe" * 125,), chop=1),
    "2.7": talk(frame(PONG)),
    "2.8": talk(frame(PONG, b"unsolicited pong payload")),
    "2.9": talk(frame(PONG, b"unsolicited pong payload"), frame(PING, b"ping payload"), seen=(b"ping payload",)),
    "2.10": talk(*(frame(PING, payload) for payload in TEN), seen=tuple(TEN)),
    "2.11": talk(*(frame(PING, payload) for payload in TEN), seen=tuple(TEN), chop=1),
}

EIGHT = b"\x00\xff\xfe\xfd\xfc\xfb\x00\xff"
ANSWERED: tuple[Seen, ...] = ("bad_json",)
RESERVED_BITS = {
    "3.1": failed(frame(TEXT, b"Hello, world!", rsv=1)),
    "3.2": failed(pinged(HELLO, frame(TEXT, b"Hello, world!", rsv=2)), after=ANSWERED),
    "3.3": failed(HELLO, frame(TEXT, b"Hello, world!", rsv=3), frame(PING), after=ANSWERED),
    "3.4": failed(pinged(HELLO, frame(TEXT, b"Hello, world!", rsv=4)), after=ANSWERED, chop=1),
    "3.5": failed(frame(BINARY, EIGHT, rsv=5)),
    "3.6": failed(frame(PING, b"Hello, world!", rsv=6)),
    "3.7": failed(frame(CLOSE, rsv=7)),
}

OPCODES = {
    f"4.{group}.{number}": case
    for group, first in ((1, 3), (2, 11))
    for number, case in enumerate(
        (
            failed(frame(first)),
            failed(frame(first + 1, b"reserved opcode payload")),
            failed(pinged(HELLO, frame(first + 2)), after=ANSWERED),
            failed(pinged(HELLO, frame(first + 3, b"Hello, world!")), after=ANSWERED),
            failed(pinged(HELLO, frame(first + 4, b"Hello, world!")), after=ANSWERED, chop=1),
        ),
        1,
    )
}

TWO = fragments(TEXT, b"fragment1", b"fragment2")
PONGS_FIRST: tuple[Seen, ...] = (b"ping payload", "bad_json")
PINGED_TWO = (TWO[0], frame(PING, b"ping payload"), TWO[1])
NOTHING_TO_CONTINUE = {fin: (frame(CONTINUATION, b"non-continuation payload", fin=fin), HELLO) for fin in (True, False)}
FIVE = fragments(TEXT, *(b"fragment%d" % n for n in range(1, 6)))
PINGED_FIVE = (*FIVE[:2], frame(PING, b"pongme 1!"), *FIVE[2:4], frame(PING, b"pongme 2!"), FIVE[4])
FIVE_SEEN: tuple[Seen, ...] = (b"pongme 1!", b"pongme 2!", "bad_json")
TWICE = {
    fin: (frame(CONTINUATION, b"fragment1", fin=fin), *fragments(TEXT, b"fragment2", b"fragment3")) * 2
    for fin in (False, True)
}
FRAGMENTS = {
    "5.1": failed(*fragments(PING, b"fragment1", b"fragment2")),
    "5.2": failed(*fragments(PONG, b"fragment1", b"fragment2")),
    "5.3": talk(b"".join(TWO), seen=ANSWERED),
    "5.4": talk(*TWO, seen=ANSWERED),
    "5.5": talk(*TWO, seen=ANSWERED, chop=1),
    "5.6": talk(b"".join(PINGED_TWO), seen=PONGS_FIRST),
    "5.7": talk(*PINGED_TWO, seen=PONGS_FIRST),
    "5.8": talk(*PINGED_TWO, seen=PONGS_FIRST, chop=1),
    "5.9": failed(b"".join(NOTHING_TO_CONTINUE[True])),
    "5.10": failed(*NOTHING_TO_CONTINUE[True]),
    "5.11": failed(*NOTHING_TO_CONTINUE[True], chop=1),
    "5.12": failed(b"".join(NOTHING_TO_CONTINUE[False])),
    "5.13": failed(*NOTHING_TO_CONTINUE[False]),
    "5.14": failed(*NOTHING_TO_CONTINUE[False], chop=1),
    "5.15": failed(b"".join((*TWO, frame(CONTINUATION, b"fragment3", fin=False), text(b"fragment4"))), after=ANSWERED),
    "5.16": failed(*TWICE[False]),
    "5.17": failed(*TWICE[True]),
    "5.18": failed(frame(TEXT, b"fragment1", fin=False), text(b"fragment2")),
    "5.19": talk(b"".join(PINGED_FIVE), seen=FIVE_SEEN),
    "5.20": talk(*PINGED_FIVE, seen=FIVE_SEEN),
}

MIXED = ("Hello-µ@ßöä".encode(), "üàá-UTF-8!!".encode())
KOSME = bytes.fromhex("cebae1bdb9cf83cebcceb5")
EDITED = b"edited"
SURROGATE = KOSME + b"\xed\xa0\x80" + EDITED
BEYOND = KOSME + b"\xf4\x90\x80\x80" + EDITED  # wrong from its thirteenth byte
BY_BYTE = [bytes([byte]) for byte in KOSME]
TEXTS = {
    "6.1.1": talk(text(b""), seen=ANSWERED),
    "6.1.2": talk(*fragments(TEXT, b"", b"", b""), seen=ANSWERED),
    "6.1.3": talk(*fragments(TEXT, b"", b"middle frame payload", b""), seen=ANSWERED),
    "6.2.1": talk(text(b"".join(MIXED)), seen=ANSWERED),
    "6.2.2": talk(*fragments(TEXT, *MIXED), seen=ANSWERED),
    "6.2.3": talk(*fragments(TEXT, *(bytes([byte]) for byte in b"".join(MIXED))), seen=ANSWERED),
    "6.2.4": talk(*fragments(TEXT, *BY_BYTE), seen=ANSWERED),
    "6.3.1": failed(text(SURROGATE), code=BAD_DATA),
    "6.3.2": failed(*fragments(TEXT, *(bytes([byte]) for byte in SURROGATE)), code=BAD_DATA),
    "6.4.1": failed(*fragments(TEXT, KOSME, BEYOND[11:15], EDITED)[:2], code=BAD_DATA),
    "6.4.2": failed(*fragments(TEXT, BEYOND[:12], BEYOND[12:13], BEYOND[13:])[:2], code=BAD_DATA),
    "6.4.3": failed(text(BEYOND)[: 6 + 11], text(BEYOND)[6 + 11 : 6 + 15], code=BAD_DATA),
    "6.4.4": failed(text(BEYOND)[: 6 + 12], text(BEYOND)[6 + 12 : 6 + 13], code=BAD_DATA),
}

# 6.5 to 6.23: + is valid.
UTF_8 = (
    "+68656c6c6f24776f726c64 +68656c6c6fc2a2776f726c64 +68656c6c6fe282ac776f726c64 +68656c6c6ff0a4ada2776f726c64 "
    "+cebae1bdb9cf83cebcceb5",
    " ".join(f"{'+' if size in (2, 5, 7, 9, 11) else '-'}{KOSME[:size].hex()}" for size in range(1, 12)),
    "+00 +c280 +e0a080 +f0908080",
    "-f888808080 -fc8480808080",
    "+7f +dfbf +efbfbf +f48fbfbf",
    "-f7bfbfbf -fbbfbfbfbf -fdbfbfbfbfbf",
    "+ed9fbf +ee8080 +efbfbd +f48fbfbf -f4908080",
    f"-80 -bf -80bf -80bf80 -80bf80bf -80bf80bf80 -80bf80bf80bf -{bytes(range(0x80, 0xBF)).hex()}",
    " ".join(
        f"-{b' '.join(bytes([n]) for n in range(first, last)).hex()}20"
        for first, last in ((0xC0, 0xDF), (0xE0, 0xEF), (0xF0, 0xF7), (0xF8, 0xFB), (0xFC, 0xFD))
    ),
    "-c0 -e080 -f08080 -f8808080 -fc80808080 -df -efbf -f7bfbf -fbbfbfbf -fdbfbfbfbf",
    "-c0e080f08080f8808080fc80808080dfefbff7bfbffbbfbfbffdbfbfbfbf",
    "-fe -ff -fefeffff",
    "-c0af -e080af -f08080af -f8808080af -fc80808080af",
    "-c1bf -e09fbf -f08fbfbf -f887bfbfbf -fc83bfbfbfbf",
    "-c080 -e08080 -f0808080 -f880808080 -fc8080808080",
    "-eda080 -edadbf -edae80 -edafbf -edb080 -edbe80 -edbfbf",
    "-eda080edb080 -eda080edbfbf -edadbfedb080 -edadbfedbfbf -edae80edb080 -edae80edbfbf -edafbfedb080 -edafbfedbfbf",
    "+efbfbe +efbfbf "
    + " ".join(f"+{chr(plane << 16 | low).encode().hex()}" for plane in range(1, 17) for low in (0xFFFE, 0xFFFF)),
    "+efbfb9 +efbfba +efbfbb +efbfbc +efbfbd +efbfbe +efbfbf",
)
SEQUENCES = {
    f"6.{group}.{number}": talk(text(payload), seen=ANSWERED) if sign == "+" else failed(text(payload), code=BAD_DATA)
    for group, line in enumerate(UTF_8, 5)
    for number, (sign, payload) in enumerate(((word[0], bytes.fromhex(word[1:])) for word in line.split()), 1)
}

GONE = (NORMAL,)
CLOSES = {
    "7.1.1": talk(HELLO, seen=ANSWERED),
    "7.1.2": talk(close(NORMAL), frame(CLOSE), seen=GONE),
    "7.1.3": talk(close(NORMAL), frame(PING), seen=GONE),
    "7.1.4": talk(close(NORMAL), HELLO, seen=GONE),
    "7.1.5": talk(TWO[0], close(NORMAL), TWO[1], seen=GONE),
    "7.1.6": talk(text(b"BAsd7&jh23" * 26_214), HELLO, close(NORMAL), frame(PING), seen=(TOO_BIG,)),
    "7.3.1": talk(frame(CLOSE), seen=(0,)),
    "7.3.2": failed(frame(CLOSE, b"a")),
    "7.3.3": talk(close(NORMAL), seen=GONE),
    "7.3.4": talk(close(NORMAL, b"Hello World!"), seen=GONE),
    "7.3.5": talk(close(NORMAL, b"*" * 123), seen=GONE),
    "7.3.6": failed(close(NORMAL, b"*" * 124)),
    "7.5.1": failed(close(NORMAL, SURROGATE), code=BAD_DATA),
    **{
        f"7.7.{number}": talk(close(code), seen=(code,))
        for number, code in enumerate((1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 3000, 3999, 4000, 4999), 1)
    },
    **{
        f"7.9.{number}": failed(close(code))
        for number, code in enumerate((0, 999, 1004, 1005, 1006, 1016, 1100, 2000, 2999), 1)
    },
    "7.13.1": failed(close(5000)),
    "7.13.2": failed(close(65_535)),
}

AUTOBAHN = FRAMING | PINGS | RESERVED_BITS | OPCODES | FRAGMENTS | TEXTS | SEQUENCES | CLOSES
