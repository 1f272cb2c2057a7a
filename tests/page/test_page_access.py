"""Who may look, what stands in the address, what the page makes of ids that are not good, and what axe-core finds."""

from __future__ import annotations

import json
import time
import unicodedata
from collections.abc import Iterator

import pytest

from tests.kit.daemon import ROOT, Running, until
from tests.kit.expected import fix, now_ms
from tests.kit.station import Station
from tests.kit.tokens import token
from tests.page.browser import Browser, Tab
from tests.page.conftest import Visit, asked_only, console_is_quiet
from tests.page.looking import rows, shows, text, wait_for_text

pytestmark = pytest.mark.live
SHOW_STATE = """import("/static/state.js").then(({ showState }) =>
  showState({ state: "%s", text: "Connection %s", silence: 0 }, false))"""
AXE = ROOT / "node_modules" / "axe-core" / "axe.min.js"
SOCKETS = """
  const Plain = WebSocket;
  window.sockets = 0;
  window.WebSocket = class extends Plain { constructor(...given) { super(...given); window.sockets += 1; } };
"""


@pytest.fixture(scope="module")
def race(at: Station, running: Running) -> str:
    start = now_ms()
    at.send([fix("R-access", f"P{n}", start, longitude=8.2 + n / 100, status="finished") for n in range(1, 4)])
    until(lambda: len(running.live("R-access")) == 3)
    until(lambda: len(at.rows("R-access")) == 3)
    return "R-access"


@pytest.fixture
def tab(chrome: Browser) -> Iterator[Tab]:
    with chrome.tab(before=SOCKETS) as opened:
        yield opened


def type_token(tab: Tab, signed: str) -> None:
    tab.until("!document.getElementById('token-form').hidden")
    tab.run(f"document.getElementById('token').value = {json.dumps(signed)}")
    tab.click("#token-form button")


def test_a_token_is_asked_for_and_kept_in_this_tab_only(running: Running, race: str, tab: Tab) -> None:
    signed = token()
    tab.open(f"http://127.0.0.1:{running.port}/")
    tab.until("document.activeElement.id === 'token'")
    type_token(tab, "not/a token")
    wait_for_text(tab, "#token-reason", "This is not a token.")
    type_token(tab, token(exp=1))
    wait_for_text(tab, "#token-reason", "did not accept")
    type_token(tab, signed)
    tab.until("!document.getElementById('live').hidden && document.querySelector('.row') !== null")
    assert tab.run("[sessionStorage.token, JSON.stringify(localStorage), document.cookie]") == [signed, "{}", ""]
    assert tab.run("document.getElementById('token').value") == ""
    tab.call("Page.reload")
    tab.until("document.querySelector('.row') !== null", "the token is kept over a reload")
    asked_only(tab, running.port, signed)
    assert signed not in running.log
    # What the browser itself says of the refused token.
    console_is_quiet(tab, "401", "HTTP Authentication failed")


def test_a_token_that_ends_is_asked_for_again_and_nothing_loops(running: Running, race: str, tab: Tab) -> None:
    short = token(exp=int(time.time()) + 12)  # long enough for the page to be opened on a busy machine
    tab.open(f"http://127.0.0.1:{running.port}/#race={race}&token={short}")
    shows(tab, ["P1", "P2", "P3"])
    wait_for_text(tab, "#token-reason", "The token has expired.")
    opened = tab.run("window.sockets")
    assert rows(tab) == {}
    assert tab.run("sessionStorage.token") is None
    # Everything that could make it try again.
    tab.run("dispatchEvent(new Event('online')); document.dispatchEvent(new Event('visibilitychange'))")
    time.sleep(2.0)  # nothing is to happen: there is nothing to wait for
    assert tab.run("window.sockets") == opened
    type_token(tab, token())
    shows(tab, ["P1", "P2", "P3"])
    assert text(tab, "#race option:checked").startswith(race)
    console_is_quiet(tab)


def test_a_link_with_nothing_but_a_token_leaves_nothing_in_the_address_bar(running: Running, tab: Tab) -> None:
    signed = token(races=[])
    tab.open(f"http://127.0.0.1:{running.port}/#token={signed}")
    wait_for_text(tab, "#connection", "Live")
    wait_for_text(tab, "#empty", "No race yet")
    asked_only(tab, running.port, signed)
    assert tab.run("location.hash") == ""


def test_a_race_that_the_token_does_not_allow(visit: Visit, race: str) -> None:
    with visit(race, signed=token(races=["R-other"])) as tab:
        wait_for_text(tab, "#notice", "forbidden_race")
        assert rows(tab) == {}
        assert tab.run("location.hash") == ""


@pytest.mark.parametrize("race_id", ["R-<b>x</b>", '"><img src=x onerror=alert(1)>', "%2e%2e/", "R 1", "R" * 51])
def test_ids_that_no_race_can_have_are_said_and_never_become_markup(visit: Visit, race_id: str) -> None:
    with visit(race_id) as tab:
        wait_for_text(tab, "#notice", "bad_request")
        assert tab.run("document.querySelectorAll('b:not(.chip b), img').length") == 0
        assert text(tab, "#connection") == "Live"


@pytest.mark.parametrize("race_id", ["R-<b>x</b>", "R/..?a=1#%41"])
def test_a_race_of_another_writer_with_such_an_id_is_listed_as_text_and_left_alone(
    at: Station, visit: Visit, race: str, race_id: str
) -> None:
    at.db.execute(
        "insert into tracking_positions (participant_id, race_id, latitude, longitude, client_timestamp)"
        " values ('<i>P</i>', %s, 1, 2, now() + interval '1 minute')",
        (race_id,),
    )
    try:
        # It is the newest: chosen first, refused, and then not again and again.
        with visit("") as tab:
            tab.until("document.getElementById('race').value !== ''")
            wait_for_text(tab, "#notice", "bad_request")
            tab.until("document.querySelector('.row:not([hidden])') !== null", "another race is shown")
            listed = tab.until(
                f"[...document.getElementById('race').options].find((o) => o.value === {json.dumps(race_id)})?.text"
            )
            assert listed.startswith(f"{race_id} · 1")
            assert tab.run("document.querySelectorAll('b:not(.chip b), i, img').length") == 0
    finally:
        at.db.execute("delete from tracking_positions where race_id = %s", (race_id,))


def test_ids_in_every_script_and_a_race_nobody_has_seen(at: Station, running: Running, visit: Visit) -> None:
    race_id = "Zürich@2026.Läufe-走"
    at.send(fix(race_id, "Åsa@1", now_ms()), fix(race_id, "עדן", now_ms()))
    until(lambda: len(at.rows(race_id)) == 2)
    with visit("R-unseen") as tab:
        wait_for_text(tab, "#empty", "Nobody has been seen in this race yet.")
        tab.until(f"[...document.getElementById('race').options].some((o) => o.value === {json.dumps(race_id)})")
        tab.run(f"""(() => {{ const picker = document.getElementById("race");
          picker.value = {json.dumps(race_id)}; picker.dispatchEvent(new Event("change")); }})()""")
        shows(tab, ["Åsa@1", "עדן"])
        tab.call("Page.reload")
        shows(tab, ["Åsa@1", "עדן"])
    with visit(unicodedata.normalize("NFD", race_id)) as tab:  # a link as a Mac may write it
        shows(tab, ["Åsa@1", "עדן"])


def test_axe_finds_nothing(chrome: Browser, running: Running, race: str) -> None:
    if not AXE.exists():
        pytest.skip("axe-core is not installed: npm install --no-save axe-core")
    axe = AXE.read_text("utf-8")

    def check(tab: Tab, state: str) -> None:
        found = tab.run(
            "axe.run().then((r) => r.violations.map((v) => [v.id, v.nodes.map((n) => n.html + n.failureSummary)]))"
        )
        assert found == [], f"{state}: {json.dumps(found, indent=1)}"

    with chrome.tab() as tab:
        tab.open(f"http://127.0.0.1:{running.port}/#race={race}")
        tab.until("document.activeElement.id === 'token'")
        tab.run(axe + "; true")
        check(tab, "form")
        type_token(tab, token())
        tab.until("document.querySelector('.row') !== null")
        for scheme in ("light", "dark"):
            tab.prefer(scheme)
            tab.size(1280, 800)
            check(tab, f"list, {scheme}")
            tab.click(".chip[data-status=finished]")
            tab.run(SHOW_STATE % ("lost", "lost"))
            check(tab, f"filter, connection lost, {scheme}")
            tab.run(SHOW_STATE % ("live", "live"))
            tab.click(".chip[data-status=finished]")
            tab.size(360, 740, touch=True)
            tab.click(".row")
            tab.until("!document.getElementById('panel').hidden")
            tab.click("#follow")
            check(tab, f"panel, {scheme}")
            tab.click("#panel-close")
            tab.click("#replay-open")
            tab.until("!document.getElementById('replay').hidden")
            check(tab, f"replay, {scheme}")
            tab.click("#replay-close")
            tab.until("document.getElementById('replay').hidden")
