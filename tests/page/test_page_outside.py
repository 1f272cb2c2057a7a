"""What the page makes of servers that are not ours: map tiles of another host, and a proxy in front of the daemon."""

from __future__ import annotations

import math
import re
import struct
import threading
import urllib.error
import urllib.request
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from actors.core.addresses import PostgresAddress
from tests.kit.daemon import WITHIN_S, until
from tests.kit.expected import fix, now_ms
from tests.kit.station import Station, station
from tests.kit.tokens import token
from tests.page.browser import Browser
from tests.page.conftest import asked_only, console_is_quiet
from tests.page.looking import colours, shows, text, wait_for_text

pytestmark = pytest.mark.live
LEVEL = 16  # the last one of the host of tiles
TILE = (34269.75, 22949.25)  # where P1 is: in the middle of the northeastern quarter of a tile of that level
RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)


def png(side: int, *quarters: tuple[int, int, int]) -> bytes:
    """A square: northwest, northeast, southwest, southeast."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    half = side // 2
    upper, lower = (b"\0" + bytes(quarters[n]) * half + bytes(quarters[n + 1]) * half for n in (0, 2))
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0))
        + chunk(b"IDAT", zlib.compress(upper * half + lower * half))
        + chunk(b"IEND", b"")
    )


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory, postgres_server: PostgresAddress) -> Iterator[Station]:
    with station(tmp_path_factory.mktemp("outside"), postgres_server) as made:
        yield made


class Host(ThreadingHTTPServer):
    """On a free port."""

    daemon_threads = True

    def __init__(self, handler: type[BaseHTTPRequestHandler]) -> None:
        super().__init__(("127.0.0.1", 0), handler)


@contextmanager
def serving(host: Host) -> Iterator[None]:
    thread = threading.Thread(target=host.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield
    finally:
        host.shutdown()
        thread.join()
        host.server_close()


class TileHost(Host):
    """Every tile has four colours, and there is none beyond a level."""

    def __init__(self, last_level: int, side: int = 256) -> None:
        super().__init__(Tile)
        self.last_level = last_level
        self.tile = png(side, RED, GREEN, BLUE, WHITE)
        self.asked: list[tuple[str, str]] = []  # path, Referer

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.server_port}"

    @property
    def levels(self) -> set[int]:
        return {int(path.split("/")[1]) for path, _ in self.asked}


class Tile(BaseHTTPRequestHandler):
    server: TileHost

    def do_GET(self) -> None:
        self.server.asked.append((self.path, self.headers.get("Referer", "")))
        there = int(self.path.split("/")[1]) <= self.server.last_level
        self.send_response(200 if there else 404)
        self.send_header("Content-Type", "image/png")
        self.end_headers()
        self.wfile.write(self.server.tile if there else b"")

    def log_message(self, *args: object) -> None:
        """Quiet."""


@contextmanager
def with_tiles(own: Station, host: TileHost, **environment: str) -> Iterator[None]:
    """The daemon, and P1 at its place on the tiles."""
    longitude = (TILE[0] / 2**LEVEL - 0.5) * 360
    latitude = math.degrees(math.atan(math.sinh(math.pi * (1 - 2 * TILE[1] / 2**LEVEL))))
    url = f"http://{host.address}/{{z}}/{{x}}/{{y}}.png"
    with serving(host), own.daemon({"PAGE_TILE_URL": url, **environment}) as running:
        own.send(fix("R-tiles", "P1", now_ms(), latitude=latitude, longitude=longitude, status="finished"))
        until(lambda: running.live("R-tiles"))
        yield


def test_tiles_come_from_the_host_that_is_set_and_from_no_other(own: Station, chrome: Browser) -> None:
    host = TileHost(19)
    with with_tiles(own, host), chrome.tab() as tab:
        tab.open(f"http://127.0.0.1:{own.port}/#race=R-tiles&token={token()}")
        shows(tab, ["P1"])
        until(lambda: any(path.startswith("/18/137079/91797.") for path, _ in host.asked), "a tile of where P1 is")
        assert {referer for _, referer in host.asked} == {""}
        assert text(tab, "#credit") == f"Map tiles: {host.address}"
        console_is_quiet(tab)
        tab.run("new Image().src = 'http://127.0.0.1:9/elsewhere.png'; true")
        until(lambda: tab.run("1") and any("Content Security Policy" in line for line in tab.console), "refused")


@pytest.mark.parametrize(("known", "side"), [(False, 256), (True, 512)])
def test_nearer_than_the_last_level_its_tiles_are_enlarged(
    own: Station, chrome: Browser, known: bool, side: int
) -> None:
    host = TileHost(LEVEL, side)
    limit = {"PAGE_TILE_MAX_ZOOM": str(LEVEL)} if known else {}
    with with_tiles(own, host, **limit), chrome.tab() as tab:
        tab.open(f"http://127.0.0.1:{own.port}/#race=R-tiles&token={token()}")
        shows(tab, ["P1"])
        x, y = tab.run(
            "(() => { const b = document.getElementById('map').getBoundingClientRect();"
            " return [b.left + b.width / 2, b.top + b.height / 2]; })()"
        )

        def around() -> set[tuple[bool, ...]]:
            """Red, green, blue, or not: the tile shines through."""
            seen = colours(tab, (x - 60, y), (x + 60, y + 40), (x, y - 60))
            return {(red > 150, green > 150, blue > 150) for red, green, blue in seen}

        green = {(False, True, False)}
        until(lambda: around() == green, "P1 is in a quarter of its colour")
        assert max(host.levels) == (LEVEL if known else 18)
        if known:
            console_is_quiet(tab)
        for _ in range(3):
            tab.click("#zoom-in")
        until(lambda: around() == green, "from nearer, too")
        assert max(host.levels) == (LEVEL if known else 19)


class Proxy(Host):
    """In front of the daemon. It does not pass Upgrade on, and has an answer of its own for /tracking, if not 0."""

    def __init__(self, port: int, answer: int = 0) -> None:
        super().__init__(Passing)
        self.port = port
        self.answer = answer


class Passing(BaseHTTPRequestHandler):
    server: Proxy

    def do_GET(self) -> None:
        if self.server.answer and self.path.startswith("/tracking"):
            self.give(self.server.answer, b"", {})
            return
        request = urllib.request.Request(f"http://127.0.0.1:{self.server.port}{self.path}", method=self.command)
        for name in ("Authorization", "Origin"):
            if name in self.headers:
                request.add_header(name, self.headers[name])
        try:
            with urllib.request.urlopen(request, timeout=WITHIN_S) as answer:
                self.give(answer.status, answer.read(), dict(answer.headers))
        except urllib.error.HTTPError as refused:
            with refused:
                self.give(refused.code, refused.read(), dict(refused.headers))
        except urllib.error.URLError:
            self.give(502, b"", {})

    do_POST = do_GET

    def give(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        self.send_header("Content-Type", headers.get("Content-Type", headers.get("content-type", "text/plain")))
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        """Quiet."""


ANSWERS = {
    404: "answers 404: nothing is there",
    502: "answers 502: the proxy does not reach",
    503: "answers 503: the server is full",
    200: "answers 200: that is no WebSocket",
    401: "answers 401: a proxy wants a login of its own",
    418: "answers 418",
    0: "answers 426: a proxy on the way does not pass Upgrade on",
}


@pytest.mark.parametrize(
    ("environment", "answers"),
    [
        ({}, ANSWERS),
        ({"WS_CORS_ORIGIN": "https://elsewhere.example"}, {0: "answers 403: this page's origin is not allowed"}),
        ({"WS_MAX_CONNECTIONS": "1"}, {0: "answers 503: the server is full"}),
    ],
)
def test_why_there_is_no_connection_is_said(
    own: Station, chrome: Browser, environment: dict[str, str], answers: dict[int, str]
) -> None:
    signed = token()
    with own.daemon(environment), chrome.tab() as other:
        if "WS_MAX_CONNECTIONS" in environment:
            other.open(f"http://127.0.0.1:{own.port}/#token={signed}")
            wait_for_text(other, "#connection", "Live")
        for answer, said in answers.items():
            proxy = Proxy(own.port, answer)
            with serving(proxy), chrome.tab(360, 740) as tab:
                tab.open(f"http://127.0.0.1:{proxy.server_port}/#race=R-none&token={signed}")
                wait_for_text(tab, "#stall", f"The WebSocket at ws://127.0.0.1:{proxy.server_port}/tracking {said}")
                assert re.search(r"\. No connection since .*: trying again$", text(tab, "#stall"))
                assert text(tab, "#connection") == "Connection lost"
                assert not tab.run("document.getElementById('stall').hidden")
                assert tab.run("document.documentElement.scrollWidth") <= 360
                asked_only(tab, proxy.server_port, signed)
                console_is_quiet(tab, "WebSocket connection to", "Failed to load resource")
