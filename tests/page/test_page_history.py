"""What the page makes of history: where a race begins, clocks that are wrong, who sends seldom, and what came late."""

from __future__ import annotations

import json
import random
from datetime import UTC, datetime
from typing import Any

import pytest

from tests.kit.daemon import Running, until
from tests.kit.expected import fix, now_ms
from tests.kit.station import Station
from tests.page.browser import Tab
from tests.page.conftest import Visit
from tests.page.looking import shows, text, wait_for_text

pytestmark = pytest.mark.live
MINUTE, HOUR, DAY = 60_000, 3_600_000, 86_400_000
ROLLOVER = 1024 * 7 * DAY  # what a GPS receiver is off that cannot count further
START = 1_751_357_730_000  # 2025-07-01T08:15:30Z

Spans = list[tuple[int, int, int]]
"""Fixes of a race: so many, from then on, with so many ms between them."""


def spans(*given: tuple[int, int, int]) -> Spans:
    return list(given)


BEGINS: dict[str, tuple[Spans, Spans, int]] = {
    # What came when it was taken; what arrived only now; where the race begins.
    "a race": (spans((500, START, 1000)), [], START),
    "three fixes": (spans((3, START, 1000)), [], START),
    "a fix of 1,024 weeks ago": (spans((500, START, 1000)), spans((1, START - ROLLOVER, 1)), START),
    "that fix, and the race has just begun": (spans((2, START, 1000)), spans((1, START - ROLLOVER, 1)), START),
    "a tracker that is 1,024 weeks behind": (spans((50, START, 1000)), spans((40_000, START - ROLLOVER, 1000)), START),
    "clocks of 2000 and of last year": (
        spans((500, START, 1000)),
        spans((9, 946_684_800_000, MINUTE), (300, START - 365 * DAY, 1000)),
        START,
    ),
    "tried out the evening before": (spans((12, START - 14 * HOUR, 5000), (500, START, 1000)), [], START),
    "tried out on two evenings": (
        spans((3, START - 38 * HOUR, 5000), (90, START - 14 * HOUR, 5000), (2000, START, 1000)),
        [],
        START,
    ),
    "a ride the week before": (spans((7000, START - 6 * DAY, 1000), (9000, START, 1000)), [], START),
    "a race of four days": (spans(*((36_000, START + n * DAY, 1000) for n in range(4))), [], START),
    "the same with slow trackers": (spans(*((60, START + n * DAY, 10 * MINUTE) for n in range(4))), [], START),
    "a day of rest": (spans((3000, START, 10_000), (3000, START + 2 * DAY, 10_000)), [], START),
    "three months without a break": (spans((9000, START, 15 * MINUTE)), [], START),
    "a tracker that was forgotten": (spans((9000, START, 1000), (5, START + 30 * DAY, MINUTE)), [], START),
    "a recording of two days that was sent afterwards": (
        [],
        spans((4000, START, 1000), (9000, START + DAY, 1000)),
        START,
    ),
    "nothing": ([], [], 0),
}
FAKE = """(async (prompt, late) => {
  const { beginOf } = await import("/static/begin.js");
  const expand = (spans) =>
    spans.flatMap(([count, from, ms]) => Array.from({ length: count }, (_, n) => from + n * ms));
  const all = [...expand(prompt).map((time) => [time, time]), ...expand(late).map((time) => [time, 1767225600000])];
  all.sort((one, other) => one[0] - other[0]);
  const iso = (ms) => new Date(ms).toISOString();
  let asked = 0;
  let given = 0;
  const connection = { request: async (event, { from, to, limit }) => {
    asked += 1;
    const found = all.filter(([time]) => (!from || time >= Date.parse(from)) && time < Date.parse(to));
    given += Math.min(limit, found.length);
    return { positions: found.slice(0, limit).map(([time, came]) => ({ timestamp: iso(time), receivedAt: iso(came) })),
      nextCursor: found.length > limit ? "more" : null };
  } };
  return [await beginOf(connection, "R", all.at(-1)?.[0] ?? 1767225600000), asked, given];
})"""


def test_a_replay_begins_where_the_race_does(visit: Visit) -> None:
    with visit("R-none-yet") as tab:
        wait_for_text(tab, "#empty", "Nobody has been seen")
        found = {
            name: tab.run(f"{FAKE}({json.dumps(prompt)}, {json.dumps(late)})")
            for name, (prompt, late, _) in BEGINS.items()
        }
    assert {name: begin or 0 for name, (begin, _, _) in found.items()} == {
        name: begin for name, (_, _, begin) in BEGINS.items()
    }
    assert max(asked for _, asked, _ in found.values()) <= 40
    assert max(given for _, _, given in found.values()) < 3000, "not everything was loaded first"


def test_a_clock_of_1024_weeks_ago_and_one_that_is_ahead(at: Station, running: Running, visit: Visit) -> None:
    race, start = "R-wrong", now_ms() - 10 * MINUTE
    at.send(
        [fix(race, "P1", start + n * 10_000, latitude=47.5 + n / 2000) for n in range(61)],
        fix(race, "P2", start - ROLLOVER, latitude=47.6, status="finished"),
        # Stands in history only: 20 hours ahead, and a minute too far ahead.
        [fix(race, "P1", start + ahead, latitude=48.5) for ahead in (20 * HOUR, 16 * MINUTE)],
    )
    until(lambda: len(at.rows(race)) == 64)
    with visit(race) as tab:
        shows(tab, ["P1", "P2"])
        tab.run("document.querySelector('.row[data-id=P1]').click()")
        wait_for_text(tab, "#panel-track", "3.3 km in 10 min")
        tab.click("#panel-close")
        tab.click("#replay-open")
        tab.until("document.getElementById('replay-play').dataset.playing === 'true'")
        assert 599 <= tab.run("Number(document.getElementById('replay-time').max)") <= 601
        wait_for_text(tab, "#replay-clock", str(datetime.fromtimestamp(start / 1000, UTC).year))
        tab.run("document.getElementById('replay-time').focus()")
        tab.key("End", 35)
        shows(tab, ["P1"])
        tab.run("document.querySelector('.row[data-id=P1]').click()")
        wait_for_text(tab, "#panel-place", "47.53000")
        wait_for_text(tab, "#panel-track", " in 5 min")


def slow(race: str, minutes: int, count: int) -> list[dict[str, Any]]:
    """A kilometre from fix to fix, the last one now."""
    start = now_ms()
    return [fix(race, "P1", start - n * minutes * MINUTE, latitude=47.5 - n * 0.009) for n in range(count - 1, -1, -1)]


@pytest.mark.parametrize(("minutes", "track"), [(4, "19 km in 76 min"), (20, "19 km in 6 h")])
def test_who_sends_seldom_has_a_way_too(at: Station, running: Running, visit: Visit, minutes: int, track: str) -> None:
    race = f"R-every-{minutes}"
    at.send(slow(race, minutes, 24))
    until(lambda: len(at.rows(race)) == 24)
    with visit(race) as tab:
        shows(tab, ["P1"])
        tab.until(f"{WAY_ON_THE_MAP}.then((pixels) => pixels > 100)", "its trail is drawn")
        tab.run("document.querySelector('.row').click()")
        wait_for_text(tab, "#panel-track", track)
        wait_for_text(tab, "#panel-speed", f"{60 / minutes:.1f} km/h")
        assert not tab.run("document.getElementById('panel-chart').hidden")
        tab.click("#replay-open")
        tab.until("document.getElementById('replay-play').dataset.playing === 'true'")
        tab.run(f"""(() => {{ const slider = document.getElementById("replay-time");
          document.getElementById("replay-play").click();
          slider.value = {minutes * 60 * 3 // 2}; slider.dispatchEvent(new Event("input")); }})()""")
        wait_for_text(tab, ".row", "moving")
        tab.run("document.querySelector('.row').click()")
        assert text(tab, "#panel-status") == "moving", "nobody is lost between two fixes"
        wait_for_text(tab, "#panel-place", f"{47.5 - 23 * 0.009 + 0.009 * 1.5:.3f}")


# Pixels that are neither map nor participant: in light colours the trail is greener than all else.
WAY_ON_THE_MAP = """(async () => {
  await new Promise(requestAnimationFrame);
  const canvas = document.getElementById("map");
  const copy = new OffscreenCanvas(canvas.width, canvas.height).getContext("2d", { willReadFrequently: true });
  copy.drawImage(canvas, 0, 0);
  const { data } = copy.getImageData(0, 0, canvas.width, canvas.height);
  let n = 0;
  for (let i = 0; i < data.length; i += 4) if (data[i + 1] - data[i] > 40 && data[i] > 60) n += 1;
  return n;
})()"""


def test_how_long_a_silence_is_none(visit: Visit) -> None:
    """By the own pace; a rest is no silence, and small steps are one."""
    with visit("R-none-yet") as tab:
        found = tab.run("""(async () => {
          const { Trail, isJoined } = await import("/static/trails.js");
          const { project } = await import("/static/mercator.js");
          const made = (steps) => {
            const trail = new Trail();
            let seconds = 0;
            for (const [after, longitude] of steps) trail.add((seconds += after) * 1000, ...project(0, longitude));
            return trail;
          };
          const joined = (trail) => trail.times.slice(1).map((_, i) => Number(isJoined(trail, i + 1))).join("");
          const every = (seconds, count) => Array.from({ length: count }, (_, n) => [seconds, n / 1000]);
          const rest = Array.from({ length: 300 }, (_, n) => [1, 0.008 + (n % 2) * 1e-6]);
          const all = [
            made(every(1200, 8)), // a fix every twenty minutes
            made([...every(1200, 8), [5000, 0.009]]), // and then four left out
            made([...every(1, 8), [200, 0.009]]),
            made([[1, 0], [1200, 0.001]]), // that is all that is known
            made([...every(1, 8), ...rest, [1, 0.0085], [1, 0.009]]),
            made(Array.from({ length: 30 }, (_, n) => [1, n * 1e-5])), // a metre each
          ];
          return all.map((trail) => [joined(trail), trail.hole]);
        })()""")
    assert found[:4] == [["1111111", -1], ["11111110", 8], ["11111110", 8], ["1", -1]]
    way, hole = found[4]
    assert (way, hole) == ("1" * 8 + "011", -1), "a rest is two points"
    assert len(found[5][0]) < 20


def test_a_hole_in_the_track_is_filled_when_the_rest_arrives(at: Station, running: Running, visit: Visit) -> None:
    race, start = "R-hole", now_ms() - 120_000

    def zigzag(first: int, last: int) -> list[dict[str, Any]]:
        return [
            fix(race, "P1", start + n * 1000, latitude=47.5 + n / 10_000, longitude=8.25 + n % 2 / 1000)
            for n in range(first, last)
        ]

    at.send(zigzag(0, 20), zigzag(100, 102))
    until(lambda: len(at.rows(race)) == 22)
    with visit(race) as tab:
        shows(tab, ["P1"])
        tab.run("document.querySelector('.row').click()")
        tab.until("/km in 2 min/.test(document.getElementById('panel-track').textContent)")
        before = kilometres(tab)
        at.send(random.Random(1).sample(zigzag(20, 100), 80))
        tab.until(f"parseFloat(document.getElementById('panel-track').textContent) > {before} + 5")


def test_a_hole_in_a_trail_is_filled_when_the_rest_arrives(at: Station, running: Running, visit: Visit) -> None:
    """Nobody's panel is open; the newest fix comes first. One is known long enough for a pace, one by a single fix."""
    race, start = "R-trail", now_ms() - 120_000

    def zigzag(participant: str, first: int, last: int) -> list[dict[str, Any]]:
        west = {"known": 8.25, "new": 8.257}[participant]
        return [
            fix(race, participant, start + n * 1000, latitude=47.5 + n / 10_000, longitude=west + abs(n % 8 - 4) / 1000)
            for n in range(first, last)
        ]

    corners = [fix(race, f"C{n}", start, latitude=47.499 + n * 0.013, longitude=8.25 + n * 0.01) for n in range(2)]
    at.send(corners, zigzag("known", 0, 20), zigzag("new", 0, 1))
    until(lambda: len(at.rows(race)) == 23)
    with visit(race) as tab:
        shows(tab, ["C0", "C1", "known", "new"])
        for participant, first in (("known", 20), ("new", 1)):
            least = tab.run(WAY_ON_THE_MAP) + 200
            at.send(zigzag(participant, 100, 101))
            settled = "(pixels > {0} && globalThis.before === pixels) || (globalThis.before = pixels, false)"
            tab.until(f"{WAY_ON_THE_MAP}.then((pixels) => {settled.format(least)})", f"more than {least} pixels")
            before = tab.run(WAY_ON_THE_MAP)
            at.send(random.Random(1).sample(zigzag(participant, first, 100), 100 - first))
            tab.until(f"{WAY_ON_THE_MAP}.then((pixels) => pixels > {before} + 1000)", f"from {before} pixels")


def test_a_gap_that_history_knows_nothing_of_is_asked_for_twice(visit: Visit) -> None:
    with visit("R-none-yet") as tab:
        wait_for_text(tab, "#empty", "Nobody has been seen")
        asked = tab.run("""(async () => {
          const { Gaps } = await import("/static/gaps.js");
          const { Race } = await import("/static/race.js");
          const race = new Race("R");
          const at = (participantId, second) => {
            const timestamp = new Date(second * 1000).toISOString();
            return { participantId, latitude: second / 1000, longitude: 0, timestamp, receivedAt: timestamp };
          };
          const gappy = [1, 2, 3, 4, 60, 61];
          race.replace(["A", "B"].flatMap((id) => gappy.map((second) => at(id, second))));
          const asked = [];
          const answers = [];
          const gaps = new Gaps({ request: (_, { participantId = "both", from, to }) => {
            asked.push([participantId, Date.parse(from) / 1000, Date.parse(to) / 1000]);
            return new Promise((done) => { answers.push((...positions) => done({ positions, nextCursor: null })); });
          } });
          const look = (second) => gaps.fill(race, [...race.entries.values()], second * 1000);
          const answered = async (second, ...positions) => {
            const done = look(second);
            await new Promise((next) => { setTimeout(next); });
            if (answers.length) await look(second + 20); // the first one is not answered yet
            answers.pop()?.(...positions);
            await done;
            asked.push(second);
          };
          await answered(0, ...gappy.slice(0, 4).map((second) => at("A", second)), at("B", 4), at("B", 30));
          for (const second of [10, 25, 40, 100, 1000, 2000]) await answered(second);
          return [asked, race.entries.get("B").trail.times.map((ms) => ms / 1000)];
        })()""")
    # What is new is looked for at once, what was not there again after a while, and nothing every second.
    both, a, b = ([who, 4, 60] for who in ("both", "A", "B"))
    assert asked == [[both, 0, 10, b, 25, a, 40, b, 100, 1000, 2000], [1, 2, 3, 4, 30, 60, 61]]


def kilometres(tab: Tab) -> float:
    return float(text(tab, "#panel-track").partition(" ")[0])


def test_a_clock_that_is_behind_is_said(at: Station, running: Running, visit: Visit) -> None:
    race = "R-behind"

    def behind(participant: str, *minutes: float) -> list[dict[str, Any]]:
        return [fix(race, participant, now_ms() - int(ago * MINUTE)) for ago in minutes]

    with visit(race) as tab:
        wait_for_text(tab, "#empty", "Nobody has been seen")
        at.send(behind("backlog", 40, 30, 20, 12, 8), behind("behind", 13.1, 13, 12.9), behind("right", 0.2, 0.1, 0))
        shows(tab, ["backlog", "behind", "right"])
        said = {}
        for who in ("behind", "right", "backlog"):
            tab.run(f"document.querySelector('.row[data-id={who}]').click()")
            wait_for_text(tab, "#panel-name", who)
            tab.until("/min/.test(document.getElementById('panel-track').textContent)")
            said[who] = text(tab, "#panel-delay")
    assert said == {"behind": "13 min: clock behind?", "right": "", "backlog": ""}
