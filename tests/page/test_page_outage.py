"""The page while the daemon goes away and comes back, and with tiles from another host."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from actors.drivers.addresses import PostgresAddress
from tests.live.expected import fix, now_ms
from tests.live.station import Station, station, token, until
from tests.page.browser import Browser
from tests.page.conftest import asked_only, console_is_quiet
from tests.page.looking import shows, text, wait_for_text

pytestmark = pytest.mark.live
# A green pixel.
PNG = bytes.fromhex(
    "89504e470d0a1a0a0000000d4948445200000001000000010802000000907753de"
    "0000000c4944415478da6360f8cf000002010100e221bc330000000049454e44ae426082"
)


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory, postgres_server: PostgresAddress) -> Iterator[Station]:
    with station(tmp_path_factory.mktemp("outage"), postgres_server) as made:
        yield made


def test_it_connects_again_after_a_restart_without_a_reload_or_a_flicker(own: Station, chrome: Browser) -> None:
    race, signed = "R-restart", token()
    with chrome.tab() as tab:
        with own.daemon() as running:
            own.send(fix(race, "P1", now_ms()), fix(race, "P2", now_ms()))
            until(lambda: len(running.live(race)) == 2)
            tab.open(f"http://127.0.0.1:{own.port}/#race={race}&token={signed}")
            shows(tab, ["P1", "P2"])
            tab.run("""
              window.sameDocument = true;
              window.fewest = Infinity;
              window.watching = setInterval(() => {
                const rows = document.querySelectorAll(".row:not([hidden])").length;
                window.fewest = Math.min(window.fewest, rows);
              }, 20); true""")
        wait_for_text(tab, "#connection", "Connection lost")
        wait_for_text(tab, "#stall", "No connection since ")
        assert not tab.run("document.getElementById('stall').hidden")
        with own.daemon() as running:
            own.send(fix(race, "P3", now_ms(), status="finished"))
            shows(tab, ["P1", "P2", "P3"])
            assert text(tab, "#connection") == "Live"
            assert tab.run("document.getElementById('stall').hidden")
            assert tab.run("window.sameDocument")
            assert tab.run("window.fewest") == 2
            own.send(fix(race, "P4", now_ms(), status="finished"))
            shows(tab, ["P1", "P2", "P3", "P4"])
            asked_only(tab, own.port, signed)
            assert signed not in running.log
        # What the browser itself says of connections that were refused.
        console_is_quiet(tab, "ERR_")


class Tiles(BaseHTTPRequestHandler):
    """Every tile is the same."""

    asked: list[tuple[str, str]]  # path, Referer

    def do_GET(self) -> None:
        self.asked.append((self.path, self.headers.get("Referer", "")))
        self.send_response(200)
        self.send_header("Content-Type", "image/png")
        self.end_headers()
        self.wfile.write(PNG)

    def log_message(self, *args: object) -> None:
        """Quiet."""


@contextmanager
def tiles() -> Iterator[tuple[int, list[tuple[str, str]]]]:
    Tiles.asked = []
    server = ThreadingHTTPServer(("127.0.0.1", 0), Tiles)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield server.server_port, Tiles.asked
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_tiles_come_from_the_host_that_is_set_and_from_no_other(own: Station, chrome: Browser) -> None:
    race, signed = "R-tiles", token()
    with tiles() as (port, asked), own.daemon({"PAGE_TILE_URL": f"http://127.0.0.1:{port}/{{z}}/{{x}}/{{y}}.png"}):
        own.send(fix(race, "P1", now_ms(), status="finished"))
        with chrome.tab() as tab:
            tab.open(f"http://127.0.0.1:{own.port}/#race={race}&token={signed}")
            shows(tab, ["P1"])
            until(lambda: any(path.startswith("/18/137079/") for path, _ in asked), "a tile of where P1 is")
            assert {referer for _, referer in asked} == {""}
            assert text(tab, "#credit") == f"Map tiles: 127.0.0.1:{port}"
            console_is_quiet(tab)
            tab.run("new Image().src = 'http://127.0.0.1:9/elsewhere.png'; true")
            until(lambda: tab.run("1") and any("Content Security Policy" in line for line in tab.console), "refused")
