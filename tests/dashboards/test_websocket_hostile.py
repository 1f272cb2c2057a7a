"""Whatever a client sends ends at most its own connection, and it is told why (RFC 6455)."""

from __future__ import annotations

import json
from contextlib import suppress

import pytest
import trio

from actors.dashboards.endings import End
from tests.dashboards.hostile import BEHIND, HANDSHAKES, get
from tests.dashboards.hostile_autobahn import AUTOBAHN
from tests.dashboards.hostile_deflate import COMPRESSED
from tests.dashboards.hostile_frames import FRAMES, Talk
from tests.dashboards.hostile_site import Talker, besieged, each, leave, read_all
from tests.kit.dashboards import Site, running_site, until, ws_settings
from tests.kit.http_client import HttpClient
from tests.kit.websocket import CONTINUATION, OFFER, PING, PROTOCOL_ERROR, TEXT, frame, request

pytestmark = pytest.mark.live


async def knock(site: Site, name: str, sent: bytes, status: int | None, later: bool = False) -> None:
    """Send it and wait for the answer, for as long as it takes; `later`: on a connection that served a request."""
    async with await site.raw() as stream, trio.open_nursery() as nursery:
        if later:
            assert (await HttpClient(stream).ask(get())).body == b"hello"
        nursery.start_soon(send, stream, sent)
        if status is not None:
            answer = await stream.receive_some(65536)
            assert answer.startswith(b"HTTP/1.1 %d " % status), (name, answer)
            if name not in BEHIND and status != 101:
                head, _, body = (answer + await read_all(stream)).partition(b"\r\n\r\n")
                fields = head.decode().split("\r\n")
                assert {"Connection: close", f"Content-Length: {len(body)}"} <= set(fields), (name, head)
                assert set(json.loads(body)["error"]) == {"code", "message"}, name
                assert (status == 426) == ("Sec-WebSocket-Version: 13" in fields), (name, head)
        nursery.cancel_scope.cancel()


async def send(stream: trio.SocketStream, sent: bytes) -> None:
    with suppress(trio.BrokenResourceError):  # refused before it was through
        await stream.send_all(sent)


async def test_handshakes() -> None:
    async with besieged() as site:
        await each(knock, *((site, name, sent, status) for name, (sent, status) in HANDSHAKES.items()))


async def test_handshakes_on_a_connection_that_served_a_request() -> None:
    said = {name: knocked for name, knocked in HANDSHAKES.items() if knocked[0]}
    async with besieged() as site:
        await each(knock, *((site, name, sent, status, True) for name, (sent, status) in said.items()))


async def talk(site: Site, name: str, said: Talk, head: bytes = b"") -> None:
    async with await site.raw() as stream:
        assert await Talker(stream).say(said, head) in (said.seen, said.or_seen), name


async def test_frames() -> None:
    async with besieged() as site:
        await each(talk, *((site, name, said) for name, said in FRAMES.items()))


async def test_the_cases_of_the_autobahn_test_suite() -> None:
    async with besieged() as site:
        await each(talk, *((site, name, said) for name, said in AUTOBAHN.items()))


AGREEING = request(Sec_WebSocket_Extensions=OFFER)


async def test_compressed_frames() -> None:
    async with besieged() as site:
        await each(talk, *((site, name, said, AGREEING) for name, said in COMPRESSED.items()))


async def test_plain_frames_where_compression_was_agreed_on() -> None:
    meant = {"reserved bits 4", "3.4"}  # the bit has a meaning now
    plain = {name: said for name, said in (FRAMES | AUTOBAHN).items() if name not in meant}
    async with besieged() as site:
        await each(talk, *((site, name, said, AGREEING) for name, said in plain.items()))


async def test_compressed_frames_that_were_not_agreed_on() -> None:
    async with besieged() as site:
        await each(talk, *((site, name, Talk(said.sent, (PROTOCOL_ERROR,))) for name, said in COMPRESSED.items()))


@pytest.mark.parametrize("ending", ["fin", "reset"])
async def test_and_leaving_at_once(ending: str) -> None:
    async def attack(*sent: bytes) -> None:
        await leave(await site.raw(), sent, ending)

    async with besieged() as site:
        await each(attack, *((sent,) for sent, _ in HANDSHAKES.values()))
        await each(attack, *((request(), *said.sent) for said in (FRAMES | AUTOBAHN).values()))
        await each(attack, *((AGREEING, *said.sent) for said in COMPRESSED.values()))


@pytest.mark.parametrize("end", [End.FLOODING, End.TOKEN_EXPIRED, End.SHUTTING_DOWN])
async def test_who_goes_on_after_our_close(end: End) -> None:
    """The library dies of pings that come after its close frame."""
    async with running_site() as site, await site.raw() as stream, trio.open_nursery() as nursery:
        talker = Talker(stream)
        assert await talker.open(request()) == 101
        nursery.start_soon(endless, stream, frame(PING, b"on and on") * 10)
        await until(lambda: len(site.listener.dashboards) == 1)
        if end is End.SHUTTING_DOWN:
            site.scope.cancel()
        else:
            [dashboard] = site.listener.dashboards
            dashboard.end(end)
        assert (await talker.rest())[-1] == end.code
        nursery.cancel_scope.cancel()
        await until(lambda: not site.listener.dashboards)
        assert site.dropped("crash") == 0


async def test_a_message_without_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    # A slow machine takes in some ten thousand such bytes a second, and nobody answers the pings here.
    monkeypatch.setattr("actors.dashboards.subscriber.MAX_UNFINISHED_BYTES", 10_000)
    settings = ws_settings(heartbeat_s=1, max_requests_per_s=10_000)
    async with running_site(settings) as site, site.dashboard() as honest:
        async with await site.raw() as stream, trio.open_nursery() as nursery:
            talker = Talker(stream)
            assert await talker.open(request()) == 101
            await stream.send_all(frame(TEXT, fin=False))
            nursery.start_soon(endless, stream, frame(CONTINUATION, fin=False) * 500)
            for _ in range(50):
                assert (await honest.refused({"event": "x" * 4000}))[0] == "unknown_event"
            assert (await talker.rest())[-1] == 1008
            nursery.cancel_scope.cancel()
        assert (await honest.refused({"event": "still here"}))[0] == "unknown_event"


async def endless(stream: trio.SocketStream, part: bytes) -> None:
    while True:
        await send(stream, part)
        await trio.sleep(0.001)
