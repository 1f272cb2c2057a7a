"""Clocks that are wrong, lines that are slow or dead, and a tab that nobody looks at for an hour."""

from __future__ import annotations

import pytest

from tests.kit.daemon import Running, until
from tests.kit.expected import fix, now_ms
from tests.kit.station import Station
from tests.kit.tokens import token
from tests.page.browser import Browser, Tab
from tests.page.conftest import Visit, address, console_is_quiet
from tests.page.looking import shows, text, wait_for_text

pytestmark = pytest.mark.live
HOUR_MS = 3_600_000
CLOCK = """
  const Plain = Date;
  window.Date = class extends Plain {
    constructor(...given) { if (given.length) super(...given); else super(Plain.now() + OFF); }
    static now() { return Plain.now() + OFF; }
  };
"""
# What a test can do to this page: let time pass at once, hide it, hold back what the server says, or lose it for good.
SLEEP = """
  const plain = { Date, now: performance.now.bind(performance), frame: requestAnimationFrame.bind(window), WebSocket };
  Object.assign(window, { ahead: 0, asleep: false, held: null, sockets: 0, dead: new Set(), open: [] });
  window.Date = class extends plain.Date {
    constructor(...given) { if (given.length) super(...given); else super(plain.Date.now() + ahead); }
    static now() { return plain.Date.now() + ahead; }
  };
  performance.now = () => plain.now() + ahead;
  window.requestAnimationFrame = (draw) =>
    plain.frame((now) => (asleep ? requestAnimationFrame(draw) : draw(now + ahead)));
  Object.defineProperty(Document.prototype, "hidden", { get: () => asleep });
  window.WebSocket = class extends plain.WebSocket {
    constructor(...given) { super(...given); sockets += 1; open.push(this); }
    set onmessage(told) { super.onmessage = told && ((event) => this.pass(() => told(event))); }
    set onclose(told) { super.onclose = told && ((event) => this.pass(() => told(event))); }
    pass(tell) {
      if (dead.has(this)) return;
      if (held) held.push(tell); else tell();
    }
  };
  window.fallAsleep = () => { asleep = true; document.dispatchEvent(new Event("visibilitychange")); return true; };
  window.wakeUp = () => { asleep = false; document.dispatchEvent(new Event("visibilitychange")); return true; };
  window.release = () => { const tells = held; held = null; tells.forEach((tell) => tell()); return true; };
"""


@pytest.mark.parametrize("off_ms", [-HOUR_MS, HOUR_MS])
def test_the_clock_of_the_browser_may_be_an_hour_off(at: Station, visit: Visit, off_ms: int) -> None:
    at.send(fix("R-clock", f"P{off_ms}", now_ms()))
    with visit("R-clock", before=CLOCK.replace("OFF", f"({off_ms})")) as tab:
        wait_for_text(tab, ".row time", " s ago")
        seen = text(tab, ".row time")
        tab.until(f"document.querySelector('.row time').textContent !== {seen!r}", "it ticks")
        assert text(tab, ".row time").endswith(" s ago")


def test_a_slow_line(at: Station, running: Running, visit: Visit) -> None:
    race = "R-slow"
    at.send([fix(race, f"P{n}", now_ms(), status="finished") for n in range(1, 200)])
    until(lambda: len(running.live(race)) == 199)
    with visit("") as tab:
        slow = {"offline": False, "latency": 300, "downloadThroughput": 50_000, "uploadThroughput": 20_000}
        tab.call("Network.emulateNetworkConditions", **slow)
        tab.run(f"location.hash = 'race={race}'")
        tab.call("Page.reload", ignoreCache=True)
        wait_for_text(tab, "#summary", "199 participants")


def test_a_large_answer_may_take_its_time_and_a_dead_line_may_not(at: Station, running: Running, visit: Visit) -> None:
    race = "R-patience"
    at.send(fix(race, "P1", now_ms(), status="finished"))
    until(lambda: len(running.live(race)) == 1)
    with visit("R-none", before=SLEEP) as tab:
        wait_for_text(tab, "#empty", "Nobody has been seen")
        tab.run(f"held = []; location.hash = 'race={race}'; true")
        tab.until("held.length >= 2", "the snapshot is on its way")
        opened = tab.run("ahead += 60000; sockets")
        listens(tab)
        assert tab.run("sockets") == opened, "another connection would begin with the same snapshot again"
        tab.run("release()")
        shows(tab, ["P1"])
        tab.run("dead.add(open.at(-1)); wakeUp(); ahead += 100000; true")
        tab.until(f"sockets === {opened + 1}", "it connects again")
        wait_for_text(tab, "#connection", "Live")


def listens(tab: Tab) -> None:
    """The page had the time to notice: it listens every second."""
    tab.run("new Promise((done) => setTimeout(done, 2200))")


def test_a_tab_that_slept_for_an_hour_on_a_line_that_died(at: Station, running: Running, visit: Visit) -> None:
    race, start = "R-asleep", now_ms()
    at.send(fix(race, "P1", start, status="finished"))
    until(lambda: len(running.live(race)) == 1)
    with visit(race, before=SLEEP) as tab:
        shows(tab, ["P1"])
        tab.run("fallAsleep(); dead.add(open.at(-1)); true")
        at.send(fix(race, "P2", start + 1000, status="finished"))
        until(lambda: len(running.live(race)) == 2)
        tab.run(f"ahead += {HOUR_MS}; wakeUp()")
        shows(tab, ["P1", "P2"])
        assert text(tab, "#connection") == "Live"
        assert text(tab, ".row time").endswith(" s ago")


def test_a_tab_that_froze_gets_everything_afterwards(at: Station, running: Running, chrome: Browser) -> None:
    race, start = "R-frozen", now_ms()
    at.send(fix(race, "P1", start, status="finished"))
    with chrome.tab() as tab:
        tab.open(address(running.port, race, token()))
        shows(tab, ["P1"])
        tab.call("Page.setWebLifecycleState", state="frozen")
        at.send(fix(race, "P2", start, status="stopped"))
        until(lambda: len(running.live(race)) == 2)
        tab.call("Page.setWebLifecycleState", state="active")
        tab.call("Emulation.setFocusEmulationEnabled", enabled=True)  # else the browser leaves it hidden
        shows(tab, ["P1", "P2"])
        # What the browser itself says when it closes the connection of a frozen page.
        console_is_quiet(tab, "Back-Forward Cache")


def test_a_replay_in_the_background_stands_still(at: Station, visit: Visit) -> None:
    race, start = "R-replay-asleep", now_ms() - HOUR_MS
    at.send([fix(race, "P1", start + n * 60_000, longitude=8.25 + n / 1000) for n in range(60)])
    until(lambda: len(at.rows(race)) == 60)
    with visit(race, before=SLEEP) as tab:
        shows(tab, ["P1"])
        tab.click("#replay-open")
        time = "Number(document.getElementById('replay-time').value)"
        tab.until(f"{time} > 20", "it plays")
        before = tab.run(f"fallAsleep(); {time}")
        tab.run(f"ahead += {HOUR_MS}; wakeUp()")
        tab.until(f"{time} > {before}", "it goes on")
        assert tab.run(time) < before + 300
