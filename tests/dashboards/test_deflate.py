"""dashboards/deflate.py: RFC 7692."""

from __future__ import annotations

import contextlib
import tracemalloc
import zlib

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from actors.dashboards.deflate import TAIL, WINDOW_BITS, BadDeflate, Inflation, TooLong, agreed, blocks

AGREED = "permessage-deflate; server_no_context_takeover; client_no_context_takeover"
IN_A_WINDOW = f"{AGREED}; server_max_window_bits={WINDOW_BITS}"

# --- what is agreed on ---


@pytest.mark.parametrize(
    ("offers", "answer"),
    [
        (["permessage-deflate"], AGREED),  # Firefox
        (["permessage-deflate; client_max_window_bits"], AGREED),  # Chromium
        (["permessage-deflate; server_max_window_bits=12; client_max_window_bits=12"], IN_A_WINDOW),  # websockets
        (["permessage-deflate;server_no_context_takeover ; client_no_context_takeover"], AGREED),
        (["permessage-deflate; client_no_context_takeover; server_no_context_takeover"], AGREED),
        (['permessage-deflate; server_max_window_bits = "15"'], IN_A_WINDOW),
        (["permessage-deflate; server_max_window_bits=11"], IN_A_WINDOW),
        (["permessage-deflate; client_max_window_bits=8"], AGREED),
        (["x-webkit-deflate-frame, permessage-deflate"], AGREED),
        (["x; y=z", "", " , ", "\tpermessage-deflate\t,"], AGREED),
        (["permessage-deflate; mode=fast, permessage-deflate"], AGREED),  # the first that can be met
        (["permessage-deflate; server_max_window_bits=10, permessage-deflate; server_max_window_bits=12"], IN_A_WINDOW),
        (["permessage-deflate, permessage-deflate; server_max_window_bits=12"], AGREED),
        (["permessage-deflate, what is this?"], AGREED),
    ],
)
def test_offers_that_can_be_met(offers: list[str], answer: str) -> None:
    assert agreed(offers) == answer


@pytest.mark.parametrize(
    "offer",
    [
        "",
        ",",
        "x-webkit-deflate-frame",
        "Permessage-Deflate",
        "permessage-deflated",
        "permessage-deflate; server_max_window_bits=10",  # below ours
        "permessage-deflate; server_max_window_bits=16",
        "permessage-deflate; server_max_window_bits=012",
        "permessage-deflate; server_max_window_bits=twelve",
        "permessage-deflate; server_max_window_bits=",
        "permessage-deflate; server_max_window_bits",
        "permessage-deflate; client_max_window_bits=7",
        "permessage-deflate; client_max_window_bits=16",
        "permessage-deflate; client_max_window_bits=015",
        "permessage-deflate; client_max_window_bits=0",
        "permessage-deflate; server_no_context_takeover=1",
        "permessage-deflate; client_no_context_takeover=true",
        "permessage-deflate; unknown",
        "permessage-deflate; unknown=1",
        "permessage-deflate; client_max_window_bits; client_max_window_bits",
        "permessage-deflate; client_max_window_bits; client_max_window_bits=10",
        "permessage-deflate; server_no_context_takeover; server_no_context_takeover",
        "permessage-deflate; server_max_window_bits=12; server_max_window_bits=12",
        'permessage-deflate; server_max_window_bits="',
        'permessage-deflate; server_max_window_bits="12',
        'permessage-deflate; server_max_window_bits=""',
        "permessage-deflate;",
        "permessage-deflate; ;",
        "permessage-deflate server_no_context_takeover",
        "permessage-d\xe9flate",
        "permessage-deflate\xa0",
        "(, permessage-deflate",  # nothing behind what cannot be read
    ],
)
def test_offers_that_cannot(offer: str) -> None:
    assert agreed([offer]) is None


KEYS = ["server_no_context_takeover", "client_no_context_takeover", "server_max_window_bits", "client_max_window_bits"]
parameter = st.tuples(st.sampled_from([*KEYS, "x"]), st.sampled_from(["", "=8", "=11", '="15"', "=16", "=", "=x"]))
offer = st.builds(
    lambda name, parameters: "; ".join([name, *map("".join, parameters)]),
    st.sampled_from(["permessage-deflate", "permessage-deflate", "x"]),
    st.lists(parameter, max_size=4),
)


@settings(deadline=None)  # machines are busy
@given(st.lists(st.lists(offer | st.text(max_size=20), max_size=3).map(", ".join), max_size=3))
def test_what_is_agreed_on_was_offered(offers: list[str]) -> None:
    answer = agreed(offers)
    assert answer in (None, AGREED, IN_A_WINDOW)
    if answer is not None:
        assert "permessage-deflate" in "".join(offers)
    if answer == IN_A_WINDOW:
        assert "server_max_window_bits" in "".join(offers)


@settings(deadline=None)  # machines are busy
@given(st.text(max_size=200))
@example("," * 16_000)
@example("a;" * 8_000)
@example("a;b=" * 4_000 + '"')
def test_any_header_is_judged_in_no_time(header: str) -> None:
    assert agreed([header]) is None


# --- there and back ---


def inflated(message: bytes, most: int = 1 << 20, size: int = 1 << 20) -> bytes:
    """The message comes in parts of this size."""
    inflation = Inflation(most)
    parts = [inflation.feed(message[at : at + size]) for at in range(0, len(message), size)]
    return b"".join(parts) + inflation.finish()


@settings(deadline=None)  # machines are busy
@given(st.lists(st.binary(max_size=200), min_size=1, max_size=4), st.integers(0, 400), st.integers(1, 100))
def test_blocks_follow_each_other_as_their_bytes_do(parts: list[bytes], times: int, size: int) -> None:
    parts[0] *= times
    message = b"".join(map(blocks, parts))
    assert message.endswith(TAIL)
    assert inflated(message.removesuffix(TAIL), size=size) == b"".join(parts)


def test_our_blocks_need_no_larger_window_than_said() -> None:
    data = b"".join(b"%d," % number for number in range(10_000)) * 2
    stream = zlib.decompressobj(-WINDOW_BITS)
    assert stream.decompress(blocks(data)) == data


def test_zlib_of_others() -> None:
    """With its usual settings, and each of its ways to flush."""
    data = b'{"event": "list_races"}' * 20
    for flush in (zlib.Z_SYNC_FLUSH, zlib.Z_FULL_FLUSH):
        compressor = zlib.compressobj(wbits=-15)
        message = compressor.compress(data[:100]) + compressor.flush(flush)
        message += compressor.compress(data[100:]) + compressor.flush(flush)
        assert inflated(message.removesuffix(TAIL)) == data


def second_of(data: bytes) -> bytes:
    """The same message once more, by a client that goes on with what it said before."""
    compressor = zlib.compressobj(wbits=-15)
    compressor.compress(data)
    compressor.flush(zlib.Z_SYNC_FLUSH)
    return (compressor.compress(data) + compressor.flush(zlib.Z_SYNC_FLUSH)).removesuffix(TAIL)


HELLO = bytes.fromhex("f248cdc9c90700")


@pytest.mark.parametrize(
    ("message", "found"),
    [
        (HELLO, b"Hello"),  # the examples of RFC 7692 section 7.2.3
        (bytes.fromhex("000500faff48656c6c6f00"), b"Hello"),  # no compression
        (bytes.fromhex("f348cdc9c9070000"), b"Hello"),  # a last block
        (bytes.fromhex("f24805000000ffffcac9c90700"), b"Hello"),  # two blocks
        (b"\x00", b""),
        (b"", b""),  # not even the empty block
        (bytes.fromhex("0300"), b""),  # only a last block
        (bytes.fromhex("030000"), b""),
        (b"\x01", b""),  # an empty last block as the one whose end is left away
        (bytes.fromhex("f348cdc9c90700"), b"Hello"),  # nothing behind the last block
        (bytes.fromhex("f348cdc9c90700") * 3 + b"\x00", b"HelloHelloHello"),  # stream after stream
        (bytes.fromhex("0000000000ffff" * 3) + b"\x00", None),
        (b"\x00\x00\x00\xff\xff" * 1000 + HELLO, b"Hello"),
    ],
)
def test_messages_as_they_may_be(message: bytes, found: bytes | None) -> None:
    if found is None:
        with pytest.raises(BadDeflate):
            inflated(message)
        return
    for size in (1, 2, 3, 1000):
        assert inflated(message, size=size) == found


@pytest.mark.parametrize(
    "message",
    [
        b"\xff",
        b"\x07",  # the block type that there is not
        b"Hello",
        b'{"event": "list_races"}',
        zlib.compress(b"Hello"),  # with zlib's own head
        b"\x00\x05\x00\xfa\xfe",  # a length and not its complement
        bytes.fromhex("000500faff48656c6c"),  # cut off in a block of bytes
        bytes.fromhex("0064009bff48656c6c"),  # where what belongs behind it would fit in
        blocks(b"".join(b"%d," % number for number in range(500)))[:-40],  # cut off in one of codes
        second_of(b'{"event": "list_races"}'),
        HELLO + HELLO[:2],
    ],
)
def test_what_cannot_be_inflated(message: bytes) -> None:
    for size in (1, 1000):
        with pytest.raises(BadDeflate):
            inflated(message, size=size)


@settings(deadline=None)  # machines are busy
@given(st.binary(max_size=300), st.integers(1, 300))
def test_whatever_comes_is_inflated_or_wrong(message: bytes, size: int) -> None:
    with contextlib.suppress(BadDeflate, TooLong):
        assert len(inflated(message, 1000, size)) <= 1000


def test_a_message_is_as_long_as_it_may_be_and_no_byte_longer() -> None:
    for size in (1, 7, 1000):
        assert inflated(blocks(bytes(4096)).removesuffix(TAIL), 4096, size) == bytes(4096)
        with pytest.raises(TooLong):
            inflated(blocks(bytes(4097)).removesuffix(TAIL), 4096, size)


def test_no_more_is_made_than_may_be() -> None:
    """10 MB of zeros are 10 kB."""
    bomb = zlib.compress(bytes(10_000_000), 9, -15)
    assert len(bomb) < 10_000
    tracemalloc.start()
    with pytest.raises(TooLong):
        inflated(bomb, 4096)
    assert tracemalloc.get_traced_memory()[1] < 100_000
    tracemalloc.stop()
