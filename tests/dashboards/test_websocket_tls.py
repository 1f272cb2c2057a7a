"""The same port with TLS."""

from __future__ import annotations

from contextlib import AsyncExitStack
from pathlib import Path

import pytest
import trio

from actors.core.position import position_json
from tests.dashboards.hostile import HANDSHAKES, get
from tests.dashboards.hostile_autobahn import AUTOBAHN
from tests.dashboards.hostile_frames import FRAMES, MAX_MESSAGE_BYTES, Talk
from tests.dashboards.hostile_site import ENDINGS, Talker, each, leave, tasks
from tests.kit.certificate import contexts
from tests.kit.client import WITHIN_S, Dashboard
from tests.kit.dashboards import make_fix, running_site, until, ws_settings
from tests.kit.http_client import HttpClient
from tests.kit.tokens import token

pytestmark = pytest.mark.live


async def test_a_dashboard_over_tls(tmp_path: Path) -> None:
    server, client = contexts(tmp_path)
    async with running_site(server_tls=server) as site:
        site.races.positions = b",".join([position_json(make_fix(), stale=False)] * 2000)  # more than a record of TLS
        stream = trio.SSLStream(await site.raw(), client, server_hostname="127.0.0.1")
        async with Dashboard.on(stream, f"/tracking?token={token()}") as dashboard:
            assert len(await dashboard.subscribe("R1")) == 2000
            site.races.change("R1")
            assert (await dashboard.receive())["event"] == "position_update"


async def test_a_refusal_over_tls(tmp_path: Path) -> None:
    server, client = contexts(tmp_path)
    async with running_site(server_tls=server) as site:
        raw = await site.raw()
        async with trio.SSLStream(raw, client, server_hostname="127.0.0.1", https_compatible=True) as stream:
            await stream.send_all(b"GET /tracking HTTP/1.1\r\nHost: a\r\n\r\n")
            with trio.fail_after(WITHIN_S):
                assert (await stream.receive_some()).startswith(b"HTTP/1.1 426 ")


async def test_a_crowd_that_says_nothing_keeps_no_probe_out(tmp_path: Path) -> None:
    server, client = contexts(tmp_path)
    async with running_site(ws_settings(max_handshakes=2), server_tls=server) as site, AsyncExitStack() as crowd:
        for _ in range(4):
            await crowd.enter_async_context(await site.raw())
        await until(lambda: len(site.listener.waiting) == 4)
        async with trio.SSLStream(await site.raw(), client, server_hostname="127.0.0.1") as stream:
            assert (await HttpClient(stream).ask(get())).body == b"hello"
        assert len(site.listener.waiting) == 4


@pytest.mark.parametrize("ending", ENDINGS)
async def test_who_does_not_speak_tls_ends_only_itself(tmp_path: Path, ending: str) -> None:
    server, client = contexts(tmp_path)

    async def attack(sent: bytes) -> None:
        await leave(await site.raw(), (sent,), ending)

    async with running_site(ws_settings(handshake_timeout_s=1), server_tls=server) as site:
        before = tasks()
        await each(attack, *((sent,) for sent, _ in HANDSHAKES.values()))
        await until(lambda: tasks() == before)
        assert site.dropped("crash") == 0
        async with trio.SSLStream(await site.raw(), client, server_hostname="127.0.0.1") as good:
            with trio.fail_after(WITHIN_S):
                await good.do_handshake()


async def test_frames_over_tls(tmp_path: Path) -> None:
    server, client = contexts(tmp_path)

    async def talk(name: str, said: Talk) -> None:
        async with await site.raw() as raw:
            stream = trio.SSLStream(raw, client, server_hostname="127.0.0.1", https_compatible=True)
            assert await Talker(stream).say(said) in (said.seen, said.or_seen), name

    settings = ws_settings(heartbeat_s=3600, max_message_bytes=MAX_MESSAGE_BYTES, max_requests_per_s=10_000)
    async with running_site(settings, server_tls=server) as site:
        before = tasks()
        await each(talk, *((name, said) for name, said in (FRAMES | AUTOBAHN).items() if not said.open_frame))
        await until(lambda: tasks() == before)
        assert site.dropped("crash") == 0
