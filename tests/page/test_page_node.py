"""Which node a page came from, where there are several."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from actors.core.addresses import PostgresAddress
from tests.kit.daemon import Running
from tests.kit.station import station
from tests.kit.tokens import token
from tests.page.browser import Browser
from tests.page.conftest import console_is_quiet
from tests.page.looking import text, wait_for_text
from tests.page.test_page_access import AXE

pytestmark = pytest.mark.live
LONGEST = "n" * 64


def test_it_stands_beside_the_connection_and_pushes_nothing_out(
    tmp_path: Path, postgres_server: PostgresAddress, chrome: Browser
) -> None:
    cluster: dict[str, object] = {"relay": "yes"}
    with (
        station(tmp_path, postgres_server, cluster=cluster, app={"node_id": LONGEST}) as at,
        at.daemon(),
        chrome.tab() as tab,
    ):
        tab.open(f"http://127.0.0.1:{at.port}/#race=R")
        tab.until("!document.getElementById('token-form').hidden")
        assert text(tab, "#node") == f"Node {LONGEST}", "it is no secret"
        tab.open(f"http://127.0.0.1:{at.port}/?#race=R&token={token()}")
        wait_for_text(tab, "#connection", "Live")
        for width in (360, 1280):
            tab.size(width, 740)
            edges = """["select", "#connection", "#node", "#theme"].flatMap((name) => {
              const box = document.querySelector(name).getBoundingClientRect(); return [box.left, box.right]; })"""
            found = tab.run(edges)
            assert found == sorted(found), "beside each other"
            assert found[-1] <= width
            assert all(box > 40 for box in (found[1] - found[0], found[5] - found[4]))
        if AXE.exists():
            tab.run(AXE.read_text("utf-8") + "; true")
            faults = tab.run("axe.run().then((found) => found.violations.map((fault) => fault.id))")
            assert faults == [], json.dumps(faults)
        console_is_quiet(tab)


def test_one_node_has_no_name_on_the_page(running: Running, chrome: Browser) -> None:
    with chrome.tab() as tab:
        tab.open(f"http://127.0.0.1:{running.port}/")
        tab.until("!document.getElementById('token-form').hidden")
        assert tab.run("document.getElementById('node').hidden")
