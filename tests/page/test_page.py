"""The page in a real browser: what comes live, and what a hand does with it."""

from __future__ import annotations

from itertools import pairwise

import pytest

from actors.dashboards.frames import LARGE_BYTES
from tests.kit.daemon import Running, until
from tests.kit.expected import fix, now_ms, utc
from tests.kit.station import Station
from tests.page.conftest import STALE_MS, Visit
from tests.page.looking import (
    ACCENT,
    FINISHED,
    HOME,
    MOVING,
    centre,
    many,
    rows,
    settled_spot,
    shows,
    spot,
    text,
    wait_for_text,
)

pytestmark = pytest.mark.live


NOTES_WHAT_AN_EMPTY_LIST_SAYS = """addEventListener("DOMContentLoaded", () => {
  const empty = document.getElementById("empty"), all = { attributes: true, childList: true, subtree: true };
  window.said = [];
  new MutationObserver(() => { if (!empty.hidden) said.push(empty.textContent); }).observe(empty, all);
});"""


def test_first_paint_has_the_snapshot_and_markers_move_when_fixes_arrive(
    at: Station, running: Running, visit: Visit
) -> None:
    race, start = "R-paint", now_ms()
    at.send(fix(race, "P1", start), fix(race, "P2", start, latitude=47.52, longitude=8.3, status="finished"))
    until(lambda: len(running.live(race)) == 2)
    with visit(race, before=NOTES_WHAT_AN_EMPTY_LIST_SAYS) as tab:
        shows(tab, ["P1", "P2"])
        assert rows(tab) == {"P1": "moving", "P2": "finished"}
        [headers] = tab.upgrades
        assert headers["Sec-WebSocket-Extensions"].startswith("permessage-deflate"), "it comes compressed"
        assert set(tab.run("said")) <= {"Loading …"}, "nobody is missed while the snapshot is drawn"
        assert text(tab, "#race option:checked").startswith("R-paint · 2")
        assert text(tab, "#summary").startswith("2 participants · newest ")
        assert text(tab, "#connection") == "Live"
        before = settled_spot(tab, MOVING)
        at.send(fix(race, "P1", start + 1000, latitude=47.51))
        wait_for_north = before[1] - 50
        until(lambda: (spot(tab, MOVING) or before)[1] < wait_for_north, "the marker went north")
        at.send(fix(race, "P3", start + 1000, status="stopped"))
        shows(tab, ["P1", "P2", "P3"])
        wait_for_text(tab, "#race option:checked", "R-paint · 3")


def test_who_is_silent_fades(at: Station, visit: Visit) -> None:
    race = "R-fade"
    with visit(race) as tab:
        wait_for_text(tab, "#empty", "Nobody has been seen")
        at.send(fix(race, "P1", now_ms() - STALE_MS + 20_000))
        shows(tab, ["P1"])
        assert rows(tab) == {"P1": "moving"}
        assert settled_spot(tab, MOVING)
        wait_for_text(tab, ".row", "moving, stale")
        assert "stale" in tab.run("document.querySelector('.row').className")
        until(lambda: spot(tab, MOVING) is None, "the full colour is gone")
        assert text(tab, ".chip[data-status=stale]") == "1 stale"
        assert tab.run("document.querySelector('.chip[data-status=moving]').hidden"), "nobody knows whether it moves"
        tab.click(".chip[data-status=stale]")
        shows(tab, ["P1"])
        wait_for_text(tab, "time", " ago")


def test_search_status_and_order_of_the_list_and_the_map(at: Station, running: Running, visit: Visit) -> None:
    race, start = "R-filter", now_ms()
    names = [("Zoë", "finished"), ("Ada", "finished"), ("Bo", "stopped"), ("Bob", "disqualified")]
    at.send(
        [fix(race, name, start - n, status=status, longitude=8 + n / 100) for n, (name, status) in enumerate(names)]
    )
    until(lambda: len(running.live(race)) == 4)
    with visit(race) as tab:
        shows(tab, ["Ada", "Bo", "Bob", "Zoë"])
        for order, found in (
            ("silent", ["Bob", "Bo", "Ada", "Zoë"]),
            ("recent", ["Zoë", "Ada", "Bo", "Bob"]),
            ("name", ["Ada", "Bo", "Bob", "Zoë"]),
        ):
            tab.run(f"""(() => {{ const order = document.getElementById("order");
              order.value = "{order}"; order.dispatchEvent(new Event("change")); }})()""")
            shows(tab, found)
        assert settled_spot(tab, FINISHED)
        tab.click("#search")
        for letter in "bo":
            tab.key(letter, text=letter)
        shows(tab, ["Bo", "Bob"])
        assert text(tab, "#summary") == "2 of 4 participants"
        tab.click(".chip[data-status=stopped]")
        shows(tab, ["Bo"])
        until(lambda: spot(tab, FINISHED) is None, "the map shows the same")
        tab.click(".chip[data-status=stopped]")
        tab.click(".chip[data-status=disqualified]")
        shows(tab, ["Bob"])
        tab.click("#search")
        for _ in "bo":
            tab.key("Backspace", 8)
        tab.click(".chip[data-status=disqualified]")
        tab.click(".chip[data-status=finished]")
        shows(tab, ["Ada", "Zoë"])
        for letter in "xx":
            tab.run("document.getElementById('search').focus()")
            tab.key(letter, text=letter)
        wait_for_text(tab, "#empty", "Nobody matches")


def test_the_keyboard_chooses_and_follows_and_a_hand_ends_it(at: Station, running: Running, visit: Visit) -> None:
    race, start = "R-follow", now_ms()
    track = [fix(race, "P2", start - n * 30_000, latitude=47.5 - n / 2000) for n in range(20, -1, -1)]
    at.send([fix(race, "P1", start, latitude=47.6, status="finished"), *track])
    until(lambda: len(running.live(race)) == 2)
    until(lambda: len(at.rows(race)) == 22)
    with visit(race) as tab:
        shows(tab, ["P1", "P2"])
        tab.run("document.getElementById('list').focus()")
        for _ in range(2):
            tab.key("ArrowDown", 40)
        assert tab.run(
            "document.getElementById(document.activeElement.getAttribute('aria-activedescendant')).dataset.id"
        )
        tab.key("Enter", 13)
        assert text(tab, "#panel-name") == "P2"
        assert tab.run("document.activeElement.id") == "panel-name"
        wait_for_text(tab, "#panel-track", "1.1 km in 10 min")
        wait_for_text(tab, "#panel-age", "ago")
        tab.click("#follow")
        wait_for_text(tab, "#follow", "Following")
        at.send(fix(race, "P2", start + 2000, latitude=47.53))
        until(lambda: near_centre(settled_spot(tab, MOVING), centre(tab)), "who is followed is in the middle")
        tab.run("document.getElementById('map').focus()")
        tab.key("ArrowRight", 39)
        wait_for_text(tab, "#follow", "Follow")
        assert text(tab, "#follow") == "Follow"
        assert not near_centre(settled_spot(tab, MOVING), centre(tab))
        tab.run("document.getElementById('panel-name').focus()")
        tab.key("Escape", 27)
        assert tab.run("document.getElementById('panel').hidden && document.activeElement.id") == "list"


def near_centre(place: tuple[float, float, int], middle: tuple[float, float]) -> bool:
    return abs(place[0] - middle[0]) < 4 and abs(place[1] - middle[1]) < 4


def test_wheel_drag_pinch_and_fit(at: Station, running: Running, visit: Visit) -> None:
    race, start = "R-hands", now_ms()
    # Neither fades, however long this takes.
    at.send([fix(race, "P1", start, status="disqualified"), fix(race, "P2", start, longitude=8.26, status="finished")])
    until(lambda: len(running.live(race)) == 2)
    with visit(race) as tab:
        shows(tab, ["P1", "P2"])
        first = settled_spot(tab, FINISHED)
        tab.mouse("mouseWheel", 300, 300, deltaX=0, deltaY=200)
        nearer = settled_spot(tab, FINISHED)
        assert abs(nearer[0] - 300) < abs(first[0] - 300), "zoomed out"
        tab.mouse("mousePressed", 300, 500)
        for x in (320, 360, 400):
            tab.mouse("mouseMoved", x, 520, buttons=1)
        tab.mouse("mouseReleased", 400, 520)
        moved = settled_spot(tab, FINISHED)
        assert (round(moved[0] - nearer[0]), round(moved[1] - nearer[1])) == (100, 20)
        tab.size(360, 740, touch=True)
        tab.click("#fit")
        before = settled_spot(tab, FINISHED)
        tab.touch("touchStart", (150, 200), (210, 200))
        for n in range(1, 3):
            tab.touch("touchMove", (150 - n * 4, 200), (210 + n * 4, 200))
        tab.touch("touchEnd")
        after = settled_spot(tab, FINISHED)
        assert after[0] > before[0] + 15, "zoomed in by two fingers"
        assert tab.run("document.documentElement.scrollWidth") <= 360, "nothing sticks out of a small phone"
        tab.run("document.getElementById('map').focus()")
        tab.key("0", 48)
        until(lambda: abs(settled_spot(tab, FINISHED)[0] - before[0]) < 3, "everybody in view again")


def test_a_past_race_is_played_again(at: Station, running: Running, visit: Visit) -> None:
    race, start = "R-replay", now_ms() - 3_600_000
    way = [fix(race, "P1", start + n * 10_000, longitude=8.25 + n / 1000) for n in range(61)]
    at.send(
        [
            *way,
            fix(race, "P2", start + 300_000, latitude=47.51),
            fix(race, "P3", start, longitude=8.31, status="stopped"),
        ]
    )
    until(lambda: len(at.rows(race)) == 63)
    with visit(race) as tab:
        shows(tab, ["P1", "P2", "P3"])
        live = tab.until("document.querySelector('.row time').textContent")
        tab.click("#replay-open")
        tab.until("document.getElementById('replay-play').dataset.playing === 'true'")
        assert text(tab, "#connection") == "Replay"
        assert tab.run("document.activeElement.id") == "replay-play"
        first = tab.run("Number(document.getElementById('replay-time').value)")
        tab.until(f"Number(document.getElementById('replay-time').value) > {first + 5}", "it plays")
        tab.click("#replay-play")
        tab.run("document.getElementById('replay-time').focus()")
        tab.key("Home", 36)
        shows(tab, ["P1", "P3"])
        tab.until("document.querySelector('.row time').textContent === '0 s ago'")
        west = settled_spot(tab, MOVING)
        tab.run("""(() => { const slider = document.getElementById("replay-time");
          slider.value = 250; slider.dispatchEvent(new Event("input")); })()""")
        until(lambda: settled_spot(tab, MOVING)[0] > west[0] + 50, "it is further along")
        assert tab.run("document.getElementById('replay-time').getAttribute('aria-valuetext')") == text(
            tab, "#replay-clock"
        )
        tab.key("End", 35)
        shows(tab, ["P1", "P2", "P3"])
        tab.click("#replay-close")
        tab.until("document.getElementById('replay').hidden")
        assert text(tab, "#connection") == "Live"
        assert text(tab, ".row time")[-5:] == live[-5:] == "n ago"


def test_ten_thousand_participants_are_a_few_rows_and_a_picture(at: Station, running: Running, visit: Visit) -> None:
    race = "R-10000"
    at.send(*many(race, 10_000, now_ms(), status="finished"))
    until(lambda: len(running.live(race)) == 10_000)
    assert len(running.get(f"/api/races/{race}/positions")[1]) > LARGE_BYTES, "it comes in fragments"
    with visit(race) as tab:
        wait_for_text(tab, "#summary", "10000 participants")
        tab.until("document.querySelector('.row') !== null")
        assert len(rows(tab)) < 60
        tab.run("document.getElementById('list').focus()")
        reached = []
        for _ in range(40):
            tab.key("ArrowDown", 40)
            active = "document.getElementById(document.getElementById('list').getAttribute('aria-activedescendant'))"
            reached.append(tab.run(f"[{active}.id, {active}.dataset.id]"))
        assert [name for _, name in reached] == [f"P{n}" for n in range(1, 41)]
        assert all(one[0] != other[0] for one, other in pairwise(reached)), "a screen reader hears of each step"
        tab.key("End", 35)
        tab.until("[...document.querySelectorAll('.row:not([hidden]) bdi')].some((b) => b.textContent === 'P10000')")
        found = spot(tab, FINISHED)
        assert found is not None
        assert found[2] > 5000
        for letter in "9999":
            tab.run("document.getElementById('search').focus()")
            tab.key(letter, text=letter)
        shows(tab, ["P9999"])


def test_who_goes_back_by_a_resync_takes_the_trail_along(visit: Visit) -> None:
    with visit("R-none-yet") as tab:
        wait_for_text(tab, "#empty", "Nobody has been seen in this race yet.")
        steps = [
            {"participantId": "P1", "latitude": HOME[0] + n / 100, "longitude": HOME[1], "timestamp": utc(n * 10_000)}
            for n in (1, 2, 3, 2)
        ]
        last = tab.run(f"""(async () => {{
          const {{ Race }} = await import("/static/race.js");
          const race = new Race("R");
          const steps = {steps};
          steps.slice(0, -1).forEach((step) => race.take(step));
          race.replace(steps.slice(-1));
          const {{ time, latitude, trail }} = race.entries.get("P1");
          return [time, latitude, trail.times];
        }})()""")
        assert last == [20_000, HOME[0] + 0.02, [10_000, 20_000]]


def test_a_jump_and_a_long_silence_are_not_part_of_the_way(visit: Visit) -> None:
    with visit("R-none-yet") as tab:
        way = tab.run("""(async () => {
          const { Trail, isJoined } = await import("/static/trails.js");
          const { project } = await import("/static/mercator.js");
          const trail = new Trail();
          // 111 m a step on the equator; a jump of a degree and back, and a silence of an hour.
          const steps = [[0, 0], [10, 0.001], [20, 1.0], [30, 0.002], [40, 0.003], [3640, 0.004], [3650, 0.005]];
          for (const [seconds, longitude] of steps) trail.add(seconds * 1000, ...project(0, longitude));
          return [[1, 2, 3, 4, 5, 6].map((i) => isJoined(trail, i)), Math.round(trail.metres)];
        })()""")
        assert way == [[True, False, False, True, False, True], 334]


def test_the_theme_follows_the_system_until_somebody_chooses(visit: Visit) -> None:
    background = "getComputedStyle(document.body).backgroundColor"
    with visit("R-none-yet") as tab:
        tab.prefer("light")
        light = tab.run(background)
        tab.prefer("dark")
        tab.until(f"{background} !== {light!r}")
        tab.click("#theme")
        tab.until(f"{background} === {light!r}")
        tab.call("Page.reload")
        tab.until(f"document.readyState === 'complete' && {background} === {light!r}")
        assert spot(tab, ACCENT) is None
