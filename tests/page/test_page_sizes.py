"""From a small phone to a wall: everything has its place, and nothing lies on what it should not."""

from __future__ import annotations

import pytest

from tests.kit.daemon import Running, until
from tests.kit.expected import STATUSES, fix, now_ms, utc
from tests.kit.station import Station
from tests.page.conftest import STALE_MS, Visit
from tests.page.looking import ACCENT, FINISHED, settled_spot, shows, wait_for_text

pytestmark = pytest.mark.live
RACE = "R-sizes"


@pytest.fixture
def everybody(at: Station, running: Running) -> list[str]:
    """One of each status in a row from southwest to northeast, and one who is stale."""
    start = now_ms()
    names = [*STATUSES, "silent"]
    fixes = [
        fix(RACE, name, start, longitude=8 + n / 100, latitude=47 + n / 150, status=status)
        for n, (name, status) in enumerate(zip(names, [*STATUSES, "moving"], strict=True))
    ]
    fixes[-1] = fix(RACE, "silent", start - 2 * STALE_MS, longitude=8.05, latitude=47.03)
    at.send(fixes)
    newest = utc(start)
    until(lambda: [live["timestamp"] for live in running.live(RACE).values()].count(newest) == len(STATUSES))
    return sorted(names)


@pytest.mark.parametrize(
    ("width", "height", "touch"),
    [(360, 740, True), (740, 360, True), (1440, 900, False), (2560, 1440, False)],
)
def test_nothing_sticks_out_and_who_is_chosen_is_not_behind_the_panel(
    visit: Visit, everybody: list[str], width: int, height: int, touch: bool
) -> None:
    with visit(RACE) as tab:
        shows(tab, everybody)
        tab.size(width, height, touch=touch)
        shows(tab, everybody)
        for selector in ("header", "#map", "#filters", "#search", "#list", "#tools"):
            left, top, right, bottom = tab.run(
                f"(() => {{ const b = document.querySelector('{selector}').getBoundingClientRect();"
                " return [b.left, b.top, b.right, b.bottom]; })()"
            )
            assert (left >= 0, top >= 0, right <= width, bottom <= height) == (True,) * 4, selector
        chips = tab.run(
            "[...document.querySelectorAll('.chip')].map((c) => [c.hidden, c.getBoundingClientRect().right])"
        )
        assert [hidden for hidden, _ in chips] == [False] * 5
        assert max(right for _, right in chips) <= width
        assert tab.run("document.getElementById('list').clientHeight") >= 0.2 * height
        assert tab.run("document.getElementById('map').clientHeight") >= 0.4 * height
        # In the corner where the panel of a wide page opens.
        tab.run("document.querySelector('.row[data-id=silent]').click()")
        x, y, _ = settled_spot(tab, ACCENT)
        left, top, right, bottom = tab.run(
            "(() => { const g = document.getElementById('ground').getBoundingClientRect();"
            " const b = document.getElementById('panel').getBoundingClientRect();"
            " return [b.left - g.left, b.top - g.top, b.right - g.left, b.bottom - g.top]; })()"
        )
        assert not (left - 10 < x < right + 10 and top - 10 < y < bottom + 10), (x, y, left, top, right, bottom)


def test_on_another_screen_and_zoomed_by_the_browser_everybody_stays_where_they_are(
    visit: Visit, everybody: list[str]
) -> None:
    with visit(RACE) as tab:
        shows(tab, everybody)
        x, y, pixels = settled_spot(tab, FINISHED)
        # A projector beside the laptop, and zooms: the ratio changes alone, in steps that are no whole numbers, too.
        for ratio in (2.0, 1.0, 1.25, 3.0, 1.0):
            tab.size(1280, 800, ratio=ratio)
            sharp = min(ratio, 2)
            tab.until(
                f"document.getElementById('map').width === Math.round({sharp} * "
                "document.getElementById('map').clientWidth)",
                f"a canvas for {ratio}",
            )
            now = settled_spot(tab, FINISHED)
            assert abs(now[0] - x) < 1.5, ratio
            assert abs(now[1] - y) < 1.5, ratio
            assert 0.6 < now[2] / pixels / sharp**2 < 1.8, ("as large as before, but for its edges", ratio)
        # What a zoom of the browser does: fewer CSS pixels, each of them larger.
        tab.size(640, 400, ratio=2.0)
        tab.until("document.getElementById('map').width === 2 * document.getElementById('map').clientWidth")
        assert settled_spot(tab, FINISHED)[2] > 2 * pixels


def test_names_keep_off_participants_and_each_other(visit: Visit) -> None:
    with visit("R-none-yet") as tab:
        wait_for_text(tab, "#empty", "Nobody has been seen")
        named = tab.run("""(async () => {
          const { Labels } = await import("/static/labels.js");
          const context = new OffscreenCanvas(400, 300).getContext("2d");
          const written = [];
          context.fillText = (text) => { written.push(text); };
          const at = (id, screenX, screenY) => ({ id, screenX, screenY, stale: false });
          // A's name would lie on B, D's on E; F's would end outside.
          const all = [at("A", 100, 100), at("B", 113, 100), at("C", 300, 200), at("D", 50, 250), at("E", 58, 258),
            at("F", 395, 50)];
          const palette = { back: "white", text: "black", quiet: "grey" };
          const labels = new Labels();
          const look = (chosen) => {
            written.length = 0;
            labels.draw(context, { width: 400, height: 300, unit: 1 }, palette, all, chosen);
            return written.join("");
          };
          const first = look();
          Object.assign(all[0], { screenX: 113, screenY: 112 }); // free, but for B's name, which stays where it is
          return [first, look(), look(all[0])];
        })()""")
        assert named == ["BCE", "BCE", "CEA"]
