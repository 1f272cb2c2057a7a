"""What somebody who looks at the page sees: rows of the list, colours on the map."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from tests.kit.expected import fix
from tests.page.browser import Tab

MOVING, FINISHED, ACCENT = "--moving", "--finished", "--accent"
HOME = (47.5, 8.25)


def many(race: str, count: int, at: int, **more: Any) -> list[list[dict[str, Any]]]:
    """Messages of up to 1,000 fixes: participants P1 ... on a lattice."""
    fixes = [
        fix(race, f"P{n}", at, latitude=47.4 + n % 100 / 1000, longitude=8.2 + n // 100 / 1000, **more)
        for n in range(1, count + 1)
    ]
    return [fixes[start : start + 1000] for start in range(0, count, 1000)]


def rows(tab: Tab) -> dict[str, str]:
    """Visible rows: participant -> status as the list writes it."""
    found: dict[str, str] = tab.run(
        "Object.fromEntries([...document.querySelectorAll('.row:not([hidden])')]"
        ".map((row) => [row.children[1].textContent, row.children[2].textContent]))"
    )
    return found


def shows(tab: Tab, participants: Sequence[str]) -> None:
    """Wait until the list is exactly these."""
    wanted = json.dumps(list(participants))
    tab.until(
        "JSON.stringify([...document.querySelectorAll('.row:not([hidden]) bdi')].map((b) => b.textContent))"
        f" === JSON.stringify({wanted})",
        f"the list is {wanted}",
    )


def text(tab: Tab, selector: str) -> str:
    found: str = tab.run(f"document.querySelector({json.dumps(selector)}).textContent")
    return found


def wait_for_text(tab: Tab, selector: str, part: str) -> None:
    tab.until(f"document.querySelector({json.dumps(selector)})?.textContent.includes({json.dumps(part)})", part)


def spot(tab: Tab, colour: str) -> tuple[float, float, int] | None:
    """Where on the map pixels of a colour of the style are, on average (CSS pixels), and how many there are."""
    found = tab.run(f"""(async () => {{
      await new Promise(requestAnimationFrame);
      const canvas = document.getElementById("map");
      const probe = document.createElement("canvas").getContext("2d");
      probe.fillStyle = getComputedStyle(document.documentElement).getPropertyValue("{colour}").trim();
      probe.fillRect(0, 0, 1, 1);
      const [r, g, b] = probe.getImageData(0, 0, 1, 1).data;
      const copy = new OffscreenCanvas(canvas.width, canvas.height).getContext("2d", {{ willReadFrequently: true }});
      copy.drawImage(canvas, 0, 0);
      const {{ data, width }} = copy.getImageData(0, 0, canvas.width, canvas.height);
      let [x, y, n] = [0, 0, 0];
      for (let i = 0; i < data.length; i += 4) {{
        if (Math.abs(data[i] - r) + Math.abs(data[i + 1] - g) + Math.abs(data[i + 2] - b) > 6) continue;
        n += 1; x += (i / 4) % width; y += Math.floor(i / 4 / width);
      }}
      const ratio = width / canvas.clientWidth;
      return n ? [x / n / ratio, y / n / ratio, n] : null;
    }})()""")
    return (found[0], found[1], found[2]) if found else None


def settled_spot(tab: Tab, colour: str) -> tuple[float, float, int]:
    """Its place once nothing glides any more."""
    before = None
    for _ in range(300):
        now = spot(tab, colour)
        if now is not None and before == now:
            return now
        before = now
    raise AssertionError(f"{colour} does not come to rest: {before}")


def colours(tab: Tab, *places: tuple[float, float]) -> list[tuple[int, int, int]]:
    """Red, green and blue at places of the page (CSS pixels), from a picture of it: a map with tiles cannot be read."""
    picture = tab.call("Page.captureScreenshot", format="png")["data"]
    found = tab.run(f"""(async () => {{
      const bytes = Uint8Array.from(atob("{picture}"), (letter) => letter.charCodeAt(0));
      const image = await createImageBitmap(new Blob([bytes], {{ type: "image/png" }}));
      const copy = new OffscreenCanvas(image.width, image.height);
      const context = copy.getContext("2d", {{ willReadFrequently: true }});
      context.drawImage(image, 0, 0);
      const ratio = image.width / innerWidth;
      return {json.dumps(places)}.map(([x, y]) => [...context.getImageData(x * ratio, y * ratio, 1, 1).data]);
    }})()""")
    return [(red, green, blue) for red, green, blue, _ in found]


def centre(tab: Tab) -> tuple[float, float]:
    """Of the part of a wide map that the open panel leaves free, CSS pixels."""
    x, y = tab.run("[document.getElementById('panel').offsetLeft / 2, document.getElementById('map').clientHeight / 2]")
    return x, y
