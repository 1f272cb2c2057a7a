"""The page while the daemon goes away and comes back."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from actors.core.addresses import PostgresAddress
from tests.kit.daemon import until
from tests.kit.expected import fix, now_ms
from tests.kit.station import Station, station
from tests.kit.tokens import token
from tests.page.browser import Browser
from tests.page.conftest import asked_only, console_is_quiet
from tests.page.looking import shows, text, wait_for_text

pytestmark = pytest.mark.live


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
