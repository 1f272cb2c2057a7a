"""HTTP: methods, connections, and what pages of other origins may do."""

from __future__ import annotations

import re

import pytest
import trio

from tests.contract.http.paths import API, PROBES
from tests.kit.outsider import LISTED, Place, fix, now_ms
from tests.kit.tokens import token

pytestmark = pytest.mark.live


async def test_a_connection_takes_request_after_request(listed: Place) -> None:
    race = listed.race()
    await listed.stored(fix(race, "P1", now_ms()))
    async with await trio.open_tcp_stream("127.0.0.1", listed.port) as stream:
        for path in [f"/api/races/{race}/export?format={form}" for form in ("csv", "gpx", "jsonl")] + [
            *API,
            "/nothing",
        ]:
            lines = [f"GET {path} HTTP/1.1", "Host: localhost", f"Authorization: Bearer {token()}", "", ""]
            await stream.send_all("\r\n".join(lines).encode())
            received = b""
            with trio.fail_after(30):
                while not _complete(received):
                    received += await stream.receive_some()
            assert received.startswith(b"HTTP/1.1 404" if path == "/nothing" else b"HTTP/1.1 200")


def _complete(received: bytes) -> bool:
    head, end, body = received.partition(b"\r\n\r\n")
    if length := re.search(rb"content-length: (\d+)", head.lower()):
        return len(body) == int(length[1])
    return bool(end) and body.endswith(b"0\r\n\r\n")


@pytest.mark.parametrize(
    "path", ["/nothing", "/api", "/api/", "/api/race", "/api/races/", "/api/races/R1", "/static/no.js", "/..", "/%00"]
)
async def test_what_is_not_there_is_404(listed: Place, path: str) -> None:
    assert (await listed.request(path, token=token())).error(404) == "not_found"


@pytest.mark.parametrize("path", ["/", *API, *PROBES])
@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH"])
async def test_other_methods_are_405(listed: Place, path: str, method: str) -> None:
    answer = await listed.request(path, method=method, token=token(), headers={"Content-Length": "0"})
    assert answer.error(405) == "method_not_allowed"
    assert {name.strip() for name in answer.headers["allow"].split(",")} >= {"GET", "HEAD"}


@pytest.mark.parametrize("path", ["/", *API, *PROBES, "/nothing"])
async def test_head_is_get_without_a_body(listed: Place, path: str) -> None:
    get = await listed.request(path, token=token())
    head = await listed.request(path, method="HEAD", token=token())
    assert head.body == b""
    assert head.status == get.status
    assert head.headers["content-type"] == get.headers["content-type"]
    assert (await listed.request(path, method="HEAD")).status == (401 if path.startswith("/api") else get.status)


async def test_a_plain_get_of_the_websocket_is_426(listed: Place, anyone: Place) -> None:
    answer = await listed.request("/tracking")
    answer.error(426)
    assert answer.headers["upgrade"] == "websocket"
    (await anyone.request("/live/feed")).error(426)
    (await anyone.request("/tracking")).error(404)


async def test_the_websocket_is_where_the_settings_say(anyone: Place) -> None:
    assert (await anyone.handshake(f"/live/feed?token={token()}")).status == 101
    (await anyone.handshake(f"/tracking?token={token()}")).error(404)
    assert b"/live/feed" in (await anyone.request("/")).body


def cross(origin: str, **more: str) -> dict[str, str]:
    return {"Origin": origin, **{name.replace("_", "-"): value for name, value in more.items()}}


PREFLIGHT = {"Access_Control_Request_Method": "GET", "Access_Control_Request_Headers": "authorization"}


@pytest.mark.parametrize("path", ["/api/races", "/healthz", "/nothing"])
async def test_a_listed_origin_may_read_also_errors(listed: Place, path: str) -> None:
    answer = await listed.request(path, headers=cross(LISTED))
    assert answer.headers["access-control-allow-origin"] == LISTED
    assert answer.headers["access-control-allow-credentials"] == "true"
    assert "origin" in answer.headers["vary"].lower()


@pytest.mark.parametrize(
    "origin", ["https://two.example", "null", "http://one.example", "https://one.example.evil.example"]
)
async def test_no_other_origin_may(listed: Place, origin: str) -> None:
    for method, more in (("GET", {}), ("OPTIONS", PREFLIGHT)):
        answer = await listed.request("/api/races", method=method, headers=cross(origin, **more), token=token())
        assert "access-control-allow-origin" not in answer.headers


async def test_preflight(listed: Place, anyone: Place) -> None:
    for place, origin, allowed in (
        (listed, LISTED, {LISTED}),
        (anyone, "https://two.example", {"*", "https://two.example"}),
    ):
        answer = await place.request("/api/races", method="OPTIONS", headers=cross(origin, **PREFLIGHT))
        assert answer.status in (200, 204)
        assert answer.headers["access-control-allow-origin"] in allowed
        assert "GET" in answer.headers["access-control-allow-methods"]
        assert "authorization" in answer.headers["access-control-allow-headers"].lower()


async def test_with_any_origin_credentials_are_never_allowed(anyone: Place) -> None:
    for origin in ("https://two.example", "null", f"http://127.0.0.1:{anyone.port}"):
        for path in ("/", "/api/races", "/nothing", "/readyz"):
            for method, more in (("GET", {}), ("HEAD", {}), ("OPTIONS", PREFLIGHT)):
                headers = cross(origin, Cookie="a=b", **more)
                answer = await anyone.request(path, method=method, headers=headers, token=token())
                assert "access-control-allow-credentials" not in answer.headers
                assert answer.headers["access-control-allow-origin"] in ("*", origin)
