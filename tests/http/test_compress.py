"""Answers compressed on their way out, called as ASGI in memory."""

from __future__ import annotations

import random
from functools import partial

import pytest
import trio
from starlette.types import Message, Receive, Scope, Send

from actors.core.errors import StoreUnavailable
from actors.http.coding import CODERS
from actors.http.compress import SLICE_BYTES, SMALL_BYTES, Compress
from tests.http.http_site import BEARER, Answer, Incoming, Site, note, scope
from tests.http.test_coding import DECODE
from tests.kit.making import make_fix

JSON = [(b"content-type", b"application/json")]
LARGE = b",".join(b'{"participantId":"P%05d","latitude":%.7f}' % (n, n / 7) for n in range(20_000))


async def answered(*pieces: bytes, accept: str = "gzip", status: int = 200, headers: list[tuple[bytes, bytes]] = JSON,
                   method: str = "GET") -> tuple[Answer, list[Message]]:  # fmt: skip
    """The answer of an application that sends these pieces."""

    async def app(_scope: Scope, _receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": status, "headers": headers})
        for piece in pieces[:-1]:
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body", "body": pieces[-1]})

    sent: list[Message] = []
    await Compress(app)(scope("/", {"accept-encoding": accept}, method), Incoming().receive, partial(note, sent))
    start, *rest = sent
    found = {name.decode(): value.decode() for name, value in start["headers"]}
    return Answer(
        start["status"], found, b"".join(piece["body"] for piece in rest), not rest[-1].get("more_body")
    ), rest


@pytest.mark.parametrize("name", CODERS)
@pytest.mark.parametrize("pieces", [(LARGE,), (LARGE[:1000], b"", LARGE[1000:], b""), (b"a", b"b")])
async def test_a_body_is_compressed_for_who_takes_it(name: str, pieces: tuple[bytes, ...]) -> None:
    size = (b"content-length", str(sum(map(len, pieces))).encode())
    answer, _ = await answered(*pieces, accept=name, headers=[*JSON, size] if len(pieces) == 1 else JSON)
    assert answer.whole
    assert DECODE[name](answer.body) == b"".join(pieces)
    assert (answer.headers["content-encoding"], answer.headers["vary"]) == (name, "Accept-Encoding")
    assert "content-length" not in answer.headers


async def test_who_does_not_ask_gets_it_plain_and_caches_know() -> None:
    answer, sent = await answered(LARGE, accept="")
    assert answer.body == LARGE
    assert len(sent) == 1
    assert answer.headers["vary"] == "Accept-Encoding"
    assert "content-encoding" not in answer.headers


@pytest.mark.parametrize(
    ("body", "status", "headers"),
    [
        (b"x" * SMALL_BYTES, 200, [(b"content-length", str(SMALL_BYTES).encode())]),
        (LARGE, 200, [(b"content-encoding", b"br"), (b"vary", b"Accept-Encoding")]),
        (b"", 304, []), (b"", 204, []),
    ],
)  # fmt: skip
async def test_what_is_left_alone(body: bytes, status: int, headers: list[tuple[bytes, bytes]]) -> None:
    answer, _ = await answered(body, status=status, headers=headers)
    assert (answer.status, answer.body) == (status, body)
    before = {name.decode(): value.decode() for name, value in headers}
    assert {name: value for name, value in answer.headers.items() if name != "vary"}.items() <= before.items()
    assert answer.headers.get("vary", "Accept-Encoding") == "Accept-Encoding"


async def test_a_large_body_is_made_in_slices_between_which_others_have_a_turn() -> None:
    noise = random.Random(1).randbytes(10 * SLICE_BYTES)
    turns = 0

    async def others() -> None:
        nonlocal turns
        while True:
            await trio.lowlevel.checkpoint()
            turns += 1

    for body in (noise, bytes(len(noise))):  # one that gives something for each slice, and one that does not
        turns = 0
        async with trio.open_nursery() as nursery:
            nursery.start_soon(others)
            _, sent = await answered(body)
            nursery.cancel_scope.cancel()
        assert turns >= 10
        assert max(len(piece["body"]) for piece in sent) < 2 * SLICE_BYTES


async def test_an_export_goes_out_while_it_is_read_and_one_that_breaks_is_no_whole_file() -> None:
    site = Site()
    site.history.fixes = [make_fix(f"P{number}") for number in range(300)]
    site.history.trouble, site.history.cut_after = StoreUnavailable("gone"), 1
    sent: list[Message] = []
    headers = {**BEARER, "accept-encoding": "zstd"}
    await site.app(scope("/api/races/R1/export", headers), Incoming().receive, partial(note, sent))
    assert (b"content-encoding", b"zstd") in sent[0]["headers"]
    assert all(message.get("more_body", True) for message in sent)


async def test_every_kind_of_answer_is_compressed() -> None:
    """Snapshots, pages of history, exports; in the files of the page nothing changes."""
    site = Site()
    site.history.fixes = [make_fix(f"P{number}") for number in range(30)]
    for target in ("/api/races/R1/positions", "/api/races/R1/history", "/api/races/R1/export?format=csv"):
        plain = await site.get(target, BEARER)
        sent: list[Message] = []
        headers = {**BEARER, "accept-encoding": "gzip"}
        await site.app(scope(target, headers), Incoming().receive, partial(note, sent))
        coded = b"".join(message.get("body", b"") for message in sent)
        if len(plain.body) > SMALL_BYTES:
            assert DECODE["gzip"](coded) == plain.body
        else:
            assert coded == plain.body
    assert (await site.get("/", {"accept-encoding": "gzip"})).headers["vary"].count("Accept-Encoding") == 1
