"""A race as a download, called as ASGI in memory."""

from __future__ import annotations

import pytest
import trio
import trio.testing
from starlette.types import Message

from actors.core.errors import StoreUnavailable
from actors.history.queries import HistoryQuery
from actors.http.api import MAX_EXPORTS
from actors.http.export import disposition
from tests.http.http_site import BEARER, Answer, Incoming, Site, note, scope
from tests.kit.making import BASE_MS, make_fix


async def test_an_export_streams_and_is_named_after_the_race() -> None:
    site = Site()
    site.history.fixes = [make_fix("P1"), make_fix("P2"), make_fix("P3")]
    answer = await site.get("/api/races/R1/export?participantId=P1&from=2025-07-01T08:15:30Z&limit=x&cursor=y", BEARER)
    assert answer.whole
    assert answer.body.count(b"\n") == 3
    assert answer.headers["content-disposition"] == 'attachment; filename="R1.jsonl"'
    assert answer.headers["cache-control"] == "no-store"
    assert "content-length" not in answer.headers
    assert site.history.asked == [HistoryQuery("R1", "P1", BASE_MS)]
    assert site.history.open_streams == 0


@pytest.mark.parametrize("name", ["csv", "geojson", "gpx", "jsonl"])
async def test_every_format_has_its_extension(name: str) -> None:
    site = Site()
    site.history.fixes = [make_fix()]
    answer = await site.get(f"/api/races/R1/export?format={name}", BEARER)
    assert answer.headers["content-disposition"] == f'attachment; filename="R1.{name}"'
    assert b"P001" in answer.body
    assert site.history.by_participant is (name in ("geojson", "gpx"))


async def test_an_unknown_format_is_refused() -> None:
    answer = await Site().get("/api/races/R1/export?format=xlsx", BEARER)
    assert (answer.status, answer.error) == (400, "bad_request")


def test_names_beyond_ascii_are_given_twice() -> None:
    assert disposition("José@1.gpx") == "attachment; filename=\"Jos_@1.gpx\"; filename*=UTF-8''Jos%C3%A9%401.gpx"


async def test_an_export_that_breaks_in_the_middle_is_not_ended_well() -> None:
    site = Site()
    site.history.fixes = [make_fix("P1"), make_fix("P2")]
    site.history.trouble, site.history.cut_after = StoreUnavailable("gone"), 1
    answer = await site.get("/api/races/R1/export", BEARER)
    assert answer.status == 200
    assert b"P1" in answer.body
    assert not answer.whole
    assert site.history.open_streams == 0


async def test_an_export_that_is_given_up_lets_go_of_the_database() -> None:
    site = Site()
    site.history.fixes = [make_fix("P1"), make_fix("P2")]
    site.history.gate = trio.Event()
    sent: list[Message] = []
    with trio.CancelScope() as scope_of_client:

        async def send(message: Message) -> None:
            await note(sent, message)
            if b"P1" in message.get("body", b""):
                scope_of_client.cancel()

        await site.app(scope("/api/races/R1/export", BEARER), Incoming().receive, send)
    assert site.history.open_streams == 0
    assert sent[-1]["more_body"] is True


async def test_exports_at_a_time_are_bounded() -> None:
    site = Site()
    site.history.fixes = [make_fix("P1"), make_fix("P2")]
    site.history.gate = trio.Event()
    answers: list[Answer] = []

    async def export() -> None:
        answers.append(await site.get("/api/races/R1/export", BEARER))

    async with trio.open_nursery() as nursery:
        for _ in range(MAX_EXPORTS):
            nursery.start_soon(export)
        while site.history.open_streams < MAX_EXPORTS:
            await trio.lowlevel.checkpoint()
        refused = await site.get("/api/races/R1/export", BEARER)
        assert (refused.status, refused.error) == (503, "unavailable")
        site.history.gate.set()
    assert [answer.status for answer in answers] == [200] * MAX_EXPORTS
    assert (await site.get("/api/races/R1/export", BEARER)).status == 200
