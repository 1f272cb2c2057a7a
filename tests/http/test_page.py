"""The page, the probes and the metrics, called as ASGI in memory."""

from __future__ import annotations

import gzip
import re
from pathlib import Path

import attrs

from actors.settings.load import AppSettings, ClusterSettings
from actors.telemetry.health import COMPONENTS
from tests.http.http_site import Site

PAGE = Path(__file__).parents[2] / "actors" / "page"


async def test_health_and_readiness_name_each_component() -> None:
    site = Site()
    assert (await site.get("/healthz")).status == 200
    answer = await site.get("/readyz")
    assert answer.status == 503
    assert answer.json["ready"] is False
    assert set(answer.json["components"]) == set(COMPONENTS)
    assert answer.json["components"]["broker"] == {"up": False, "detail": "starting"}
    site.health.up("websocket")
    answer = await site.get("/readyz")
    assert (answer.status, answer.json["ready"]) == (200, True)
    assert answer.json["components"]["websocket"] == {"up": True, "detail": "ok"}


async def test_ingest_is_ready_with_broker_and_a_place_to_put_fixes() -> None:
    site = Site()

    async def status() -> int:
        return (await site.get("/readyz/ingest")).status

    assert await status() == 503
    site.health.up("broker")
    assert await status() == 503
    site.health.up("postgres")
    assert await status() == 200
    site.health.down("postgres", "away")
    assert await status() == 503
    site.health.up("spool", "12 fixes")
    assert await status() == 200
    site.health.down("broker", "away")
    assert await status() == 503


async def test_a_node_that_waits_is_ready_for_ingest_while_it_could_take_over() -> None:
    site = Site()
    assert "ingest" not in (await site.get("/readyz/ingest")).json
    site.health.use("ingest")
    for ingest, up, status in (("waiting", False, 503), ("waiting", True, 200), ("reading", True, 503)):
        site.health.ingest = ingest
        if up:
            site.health.up("ingest", ingest)
        answer = await site.get("/readyz/ingest")
        assert (answer.status, answer.json["ingest"]) == (status, ingest), "who reads needs the broker"
        assert answer.json["components"]["ingest"]["up"] is up


async def test_metrics_are_prometheus_text_without_a_token() -> None:
    site = Site()
    site.metrics.fixes_received.inc(3)
    answer = await site.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=")
    assert b"tracking_fixes_received_total 3.0" in answer.body


async def test_the_page_may_load_nothing_from_elsewhere() -> None:
    answer = await Site().with_ws(path='/live"x').get("/")
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    policy = answer.headers["content-security-policy"].split("; ")
    assert {"default-src 'none'", "script-src 'self'", "connect-src 'self'", "img-src 'self'"} <= set(policy)
    assert "unsafe" not in answer.headers["content-security-policy"]
    assert b'name="tracking-path" content="/live&quot;x"' in answer.body
    assert b'name="tracking-auth" content="token"' in answer.body
    assert b'name="tracking-tile-max-zoom" content="19"' in answer.body
    assert b'name="tracking-stale-ms" content="30000"' in answer.body
    assert b'name="tracking-skew-ms" content="300000"' in answer.body
    assert b"{" not in answer.body
    assert b"<style" not in answer.body
    assert b"style=" not in answer.body


async def test_a_page_says_which_node_it_came_from_where_there_are_several() -> None:
    node = b'name="tracking-node" content="%s"'
    alone, several = Site(), Site()
    alone.settings = attrs.evolve(alone.settings, app=AppSettings(node_id='a"<b>'))  # as a host may be called
    several.settings = attrs.evolve(alone.settings, cluster=ClusterSettings(relay=True))
    assert node % b"" in (await alone.get("/")).body
    assert node % b"a&quot;&lt;b&gt;" in (await several.get("/")).body


async def test_tiles_are_the_only_thing_from_elsewhere_and_only_where_they_are_set() -> None:
    url = "https://tiles.example.org:8443/{z}/{x}/{y}.png?a=1&b=2"
    for path in ("/", "/static/map.js"):
        answer = await Site().with_page(tile_url=url).get(path)
        assert "; img-src 'self' https://tiles.example.org:8443" in answer.headers["content-security-policy"]
        assert "default-src 'none';" in answer.headers["content-security-policy"]
    page = (await Site().with_page(tile_url=url).get("/")).body
    assert b'name="tracking-tiles" content="' + url.replace("&", "&amp;").encode() in page


async def test_every_file_of_the_page_is_there_and_kept_by_browsers() -> None:
    site = Site()
    page = (await site.get("/")).body.decode()
    for name, media_type in (
        ("app.js", "text/javascript"),
        ("connection.js", "text/javascript"),
        ("map.js", "text/javascript"),
        ("style.css", "text/css"),
        ("icon.svg", "image/svg+xml"),
    ):
        answer = await site.get(f"/static/{name}")
        assert answer.status == 200
        assert answer.headers["content-type"].startswith(media_type)
        assert answer.headers["content-security-policy"]
        etag = answer.headers["etag"]
        again = await site.get(f"/static/{name}", {"if-none-match": f'"other", {etag.removeprefix("W/")}'})
        assert (again.status, again.body, again.headers["etag"]) == (304, b"", etag)
        assert (await site.get(f"/static/{name}", {"if-none-match": '"other"'})).status == 200
    wanted = re.findall('="static/([^"]+)"', page)
    assert {name for name in wanted if name.endswith(".js")} == {each.name for each in PAGE.glob("*.js")}
    assert set(wanted) - {each.name for each in PAGE.glob("*.js")} == {"colours.css", "style.css", "icon.svg"}


async def test_files_are_packed_for_who_can_unpack_them() -> None:
    site = Site()
    plain = await site.get("/static/app.js")
    assert "Accept-Encoding" in plain.headers["vary"]
    assert plain.body == PAGE.joinpath("app.js").read_bytes()
    packed = await site.get("/static/app.js", {"accept-encoding": "deflate, gzip, br"})
    assert packed.headers["content-encoding"] == "gzip"
    assert (gzip.decompress(packed.body), packed.headers["etag"]) == (plain.body, plain.headers["etag"])
    assert len(packed.body) < len(plain.body) / 2
    assert (await site.get("/static/app.js", {"accept-encoding": "gzip;q=0"})).body == plain.body
