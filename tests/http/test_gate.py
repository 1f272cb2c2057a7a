"""What holds for every HTTP request, called as ASGI in memory: who may ask, and what does not get through."""

from __future__ import annotations

import json
from functools import partial

import pytest
import trio
import trio.testing
from starlette.types import Message

from actors.http.problem import Problem
from tests.http.http_site import BEARER, FakeAccess, Incoming, Site, note, scope


async def test_any_origin_is_told_so_and_never_with_credentials() -> None:
    site = Site().with_ws(cors_origin=("*",), cors_credentials=True)
    for path in ("/api/races", "/api/nothing"):
        answer = await site.get(path, {**BEARER, "origin": "https://elsewhere.example"})
        assert answer.headers["access-control-allow-origin"] == "*"
        assert "access-control-allow-credentials" not in answer.headers


async def test_listed_origins_are_mirrored() -> None:
    site = Site().with_ws(cors_origin=("https://a.example", "https://b.example"), cors_credentials=True)
    answer = await site.get("/api/races", {**BEARER, "origin": "https://b.example"})
    assert answer.headers["access-control-allow-origin"] == "https://b.example"
    assert answer.headers["access-control-allow-credentials"] == "true"
    assert "Origin" in answer.headers["vary"]
    other = await site.get("/api/races", {**BEARER, "origin": "https://c.example"})
    assert other.status == 200
    assert "access-control-allow-origin" not in other.headers
    assert "Origin" in other.headers["vary"]


async def test_a_preflight_is_answered() -> None:
    site = Site().with_ws(cors_origin=("https://a.example",))
    ask = {
        "origin": "https://a.example",
        "access-control-request-method": "GET",
        "access-control-request-headers": "authorization",
    }
    answer = await site.get("/api/races/R1/history", ask, "OPTIONS")
    assert answer.status == 200
    assert answer.headers["access-control-allow-origin"] == "https://a.example"
    assert answer.headers["access-control-allow-methods"] == "GET, HEAD"
    assert "Authorization" in answer.headers["access-control-allow-headers"]
    for change in ({"origin": "https://c.example"}, {"access-control-request-method": "DELETE"}):
        refused = await site.get("/api/races/R1/history", ask | change, "OPTIONS")
        assert (refused.status, refused.error) == (400, "bad_request")


@pytest.mark.parametrize("path", ["/", "/healthz", "/metrics", "/api/races", "/nothing"])
async def test_with_auth_off_only_this_machine_is_answered(path: str) -> None:
    site = Site(access=FakeAccess(off=True)).with_ws(auth="off")
    assert (await site.get(path, {"origin": "http://localhost:3000"})).status in (200, 404)
    for headers in ({"host": "rebound.example"}, {"origin": "https://evil.example"}, {"host": "10.0.0.1:3000"}):
        answer = await site.get(path, headers)
        assert (answer.status, answer.error) == (403, "forbidden")


async def test_small_bodies_are_taken_and_large_ones_refused() -> None:
    site = Site()
    for pieces, status in (([b"x" * 4096], 200), ([b"x"] * 4096, 200), ([b"x" * 4097], 413), ([b"x"] * 4097, 413)):
        sent: list[Message] = []
        asked = scope("/healthz", {"transfer-encoding": "chunked"})
        await site.app(asked, Incoming(list(pieces)).receive, partial(note, sent))
        assert sent[0]["status"] == status


async def test_a_body_that_does_not_come_is_not_waited_for_long(autojump_clock: trio.testing.MockClock) -> None:
    sent: list[Message] = []
    asked = scope("/healthz", {"content-length": "10"})
    await Site().app(asked, Incoming([]).receive, partial(note, sent))
    assert sent[0]["status"] == 413


def test_a_problem_without_a_known_status_has_a_code_too() -> None:
    assert json.loads(Problem(418, "tea").body()) == {"error": {"code": "error", "message": "tea"}}
