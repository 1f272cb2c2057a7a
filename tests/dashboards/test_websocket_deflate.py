"""Compression over real TCP: who gets it, and that it changes nothing but bytes. Hostile frames: hostile_deflate.py;
libraries: test_websocket_clients.py."""

from __future__ import annotations

import json
from contextlib import AbstractAsyncContextManager

import pytest

from actors.core.position import position_json
from actors.dashboards import frames
from actors.dashboards.deflate import WINDOW_BITS
from actors.dashboards.deflate import blocks as genuine
from tests.dashboards.hostile_deflate import deflated
from tests.kit.client import Dashboard, dashboard
from tests.kit.dashboards import Site, make_fix, running_site, until, ws_settings
from tests.kit.websocket import OFFER

pytestmark = pytest.mark.live

AGREED = "permessage-deflate; server_no_context_takeover; client_no_context_takeover"


def client(site: Site, offer: str | None = OFFER) -> AbstractAsyncContextManager[Dashboard]:
    return dashboard(site.port, offer=offer)


async def answered(site: Site, offer: str | None) -> str | None:
    """The extensions that are agreed on."""
    async with client(site, offer) as board:
        return board.extensions


async def test_what_is_agreed_on() -> None:
    async with running_site() as site:
        assert await answered(site, None) is None
        assert await answered(site, OFFER) == AGREED
        assert await answered(site, f"x-other\r\nsec-websocket-extensions: {OFFER}") == AGREED
        narrow = f"{AGREED}; server_max_window_bits={WINDOW_BITS}"
        assert await answered(site, "permessage-deflate; server_max_window_bits=12") == narrow
        assert await answered(site, "permessage-deflate; server_max_window_bits=8") is None


async def test_nothing_is_when_it_is_switched_off() -> None:
    async with running_site(ws_settings(compression=False)) as site, client(site) as board:
        assert board.extensions is None
        assert await board.refused("x" * 200) == ("bad_json", None)
        assert not board.compressed


async def test_compressed_and_plain_dashboards_are_told_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """And what is for both is compressed once."""
    made: list[bytes] = []

    def blocks(data: bytes) -> bytes:
        made.append(data)
        return genuine(data)

    monkeypatch.setattr(frames, "blocks", blocks)
    async with running_site() as site, client(site) as one, client(site) as two, client(site, None) as plain:
        site.races.positions = b",".join(position_json(make_fix(f"P{n:03}"), stale=False) for n in range(100))
        boards = (one, two, plain)
        snapshots = [await board.subscribe("R1") for board in boards]
        assert snapshots[0] == snapshots[1] == snapshots[2]
        assert [board.compressed for board in boards] == [True, True, False]
        for number in range(10):
            made.clear()
            site.races.change("R1", f"P{number}")
            updates = [await board.receive() for board in boards]
            assert updates[0] == updates[1] == updates[2]
            assert [board.compressed for board in boards] == [True, True, False]
            assert len(made) == 1


async def test_nothing_is_compressed_when_nobody_wants_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def blocks(_data: bytes) -> bytes:
        raise AssertionError

    monkeypatch.setattr(frames, "blocks", blocks)
    async with running_site() as site, client(site, None) as board:
        await board.subscribe("R1")
        site.races.change("R1")
        assert (await board.receive())["event"] == "position_update"


async def test_what_it_sends_may_be_compressed_and_a_small_answer_is_plain() -> None:
    async with running_site() as site, client(site) as board:
        await board.write(deflated(json.dumps({"event": "unsubscribe_race", "data": {"raceId": "R1"}}).encode()))
        assert (await board.receive())["event"] == "race_unsubscribed"
        assert not board.compressed


async def test_a_bomb_ends_its_own_connection_and_is_counted() -> None:
    async with running_site() as site, client(site) as board, client(site) as other:
        await board.write(deflated(b"x" * 5000))
        assert await board.closed() == 1009
        await until(lambda: site.dropped("too_large") == 1)
        await other.subscribe("R1")
