"""The page, the API and the WebSocket through each reverse proxy of README.md, as its files stand there."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import attrs
import pytest
import trio
from starlette.types import ASGIApp

from actors.http.access import Access
from actors.http.api import build_app
from actors.settings.load import Settings
from actors.telemetry.health import Health
from actors.telemetry.metrics import Metrics
from tests.http.http_site import FakeRaces, ScriptedHistory
from tests.kit.certificate import contexts
from tests.kit.client import WITHIN_S, Dashboard
from tests.kit.dashboards import Site, running_site, wall_ms, ws_settings
from tests.kit.tokens import SECRET, token
from tests.kit.websocket import OFFER, RawSocket, request
from tests.readme import proxies
from tests.readme.proxies import TIMEOUT_S, Made, Proxy, needs_proxies

pytestmark = [pytest.mark.live, needs_proxies]

TURNS = 20
INSIDE = ("/metrics", "/metrics/", "/ops", "/ops/", "/ops/alerts.yml", "/healthz", "/readyz", "/readyz/ingest")
DISGUISED = (
    "/%6detrics",
    "//metrics",
    "/static/../metrics",
    "/api/../metrics",
    "/metrics?a",
    "/metrics%3fa",
    "/Metrics",
)


def application(settings: Settings) -> ASGIApp:
    metrics = Metrics()
    return build_app(
        settings=settings,
        access=Access(SECRET.encode(), True, settings.ws.cors_origin),
        history=ScriptedHistory(),
        races_live=FakeRaces(),
        health=Health(metrics),
        metrics=metrics,
        clock=wall_ms,
    )


@attrs.frozen(eq=False)
class Outside:
    """Where strangers are: `prefix` is before every path."""

    site: Site
    proxy: Proxy
    prefix: str
    tls: ssl.SSLContext

    async def get(self, *requests: str, http: str = "--http2") -> list[tuple[str, int]]:
        return await self.proxy.get(*(self.prefix + each for each in requests), http=http)

    async def stream(self) -> trio.abc.Stream:
        raw = await trio.open_tcp_stream("127.0.0.1", self.proxy.port)
        return trio.SSLStream(raw, self.tls, server_hostname="127.0.0.1", https_compatible=True)

    @asynccontextmanager
    async def socket(self) -> AsyncIterator[RawSocket]:
        stream = await self.stream()
        try:
            yield RawSocket(stream)
        finally:
            await trio.aclose_forcefully(stream)

    async def upgrade(self, origin: str) -> int:
        async with self.socket() as socket:
            return await socket.open(self.request(Origin=origin))

    def request(self, query: str = "", **fields: str | None) -> bytes:
        fields["Host"] = f"127.0.0.1:{self.proxy.port}"
        return request(f"{self.prefix}/tracking{query}", line="", **fields)

    @asynccontextmanager
    async def dashboard(self) -> AsyncIterator[Dashboard]:
        target = f"{self.prefix}/tracking?token={token()}"
        fields = {"Host": f"127.0.0.1:{self.proxy.port}", "Sec_WebSocket_Extensions": OFFER}
        async with Dashboard.on(await self.stream(), target, **fields) as dashboard:
            assert dashboard.extensions, "the proxy lets compression through"
            yield dashboard


@pytest.fixture(
    params=[proxies.nginx, proxies.nginx_below, proxies.haproxy, proxies.caddy], ids=lambda each: each.__name__
)
async def outside(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Outside]:
    make: Made = request.param
    prefix = "/live" if make is proxies.nginx_below else ""
    settings = ws_settings(heartbeat_s=1, path=f"{prefix}/tracking", cors_origin=("https://other.example",))
    _, tls = contexts(tmp_path)
    async with (
        running_site(settings, app=application(settings)) as site,
        proxies.running(make, tmp_path, site.port) as proxy,
    ):
        yield Outside(site, proxy, prefix, tls)


async def test_what_is_for_everybody_is_there_and_what_is_for_operators_is_not(outside: Outside) -> None:
    ticket = f"\nAuthorization: Bearer {token()}"
    public = [
        f"/{ticket}",
        "/static/app.js",
        "/api/openapi.json",
        f"/api/races{ticket}",
        f"/api/races/R1/positions{ticket}",
    ]
    public += [f"/api/races/{name}/positions{ticket}" for name in ("metrics", "ops", "healthz")]
    assert await outside.get(*public) == [("2", 200)] * len(public)
    assert await outside.get("/api/races") == [("2", 401)]
    for http, version in (("--http2", "2"), ("--http1.1", "1.1")):
        assert await outside.get(*INSIDE, http=http) == [(version, 404)] * len(INSIDE)
    assert {status for _, status in await outside.get(*DISGUISED)} <= {400, 404}


async def test_dashboards_come_in_on_connections_that_served_others(outside: Outside) -> None:
    for _ in range(TURNS):
        assert await outside.get("/", "/static/app.js") == [("2", 200)] * 2
        async with outside.dashboard() as dashboard:
            assert (await dashboard.ask("subscribe_race", {"raceId": "R1"}))["event"] == "race_snapshot"
    assert outside.site.dropped("unavailable") == 0


async def test_a_silent_dashboard_stays(outside: Outside) -> None:
    async with outside.dashboard() as dashboard:
        await dashboard.ask("subscribe_race", {"raceId": "R1"})
        with trio.move_on_after(2 * TIMEOUT_S + 1) as silence:
            await dashboard.receive()  # answers pings
        assert silence.cancelled_caught
        outside.site.races.change("R1")
        assert (await dashboard.receive())["event"] == "position_update"


async def test_the_daemon_knows_its_own_origin(outside: Outside) -> None:
    own = f"https://127.0.0.1:{outside.proxy.port}"
    assert await outside.upgrade(own) == 101
    assert await outside.upgrade("https://other.example") == 101
    assert await outside.upgrade("https://evil.example") == 403


async def test_no_log_has_a_token(outside: Outside) -> None:
    """Of requests that go well, and of such that do not, because the daemon is gone."""
    secret = token()
    ways = [f"/api/races?token={secret}", f"/api/races\nAuthorization: Bearer {secret}"]
    heads = [
        outside.request(f"?token={secret}", Authorization=None),
        outside.request(Authorization=None, Sec_WebSocket_Protocol=f"tracking.v1, bearer.{secret}"),
        outside.request(Authorization=f"Bearer {secret}"),
    ]
    assert [status for _, status in await outside.get(*ways)] == [200, 200]
    with trio.fail_after(WITHIN_S):
        for head in heads:
            async with outside.socket() as socket:
                assert await socket.open(head) == 101
        outside.site.scope.cancel()
        await outside.site.stopped.wait()
        for head in heads:
            async with outside.socket() as socket:
                assert await socket.open(head) in (502, 503)
        assert {status for _, status in await outside.get(*ways)} <= {502, 503}
    for part in secret.split("."):
        assert part not in outside.proxy.said
