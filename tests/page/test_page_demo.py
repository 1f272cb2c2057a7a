"""`python supervisor.py demo` prints one URL, and one click later the race is moving."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests.embedded.embedded_place import make_place, reachable_folder
from tests.kit.daemon import SUPERVISOR, WITHIN_S, until, write_settings
from tests.kit.servers import free_port
from tests.page.browser import Browser
from tests.page.conftest import console_is_quiet
from tests.page.looking import wait_for_text

pytestmark = pytest.mark.live


@pytest.fixture
def url() -> Iterator[str]:
    port = free_port()
    with reachable_folder() as folder, make_place(folder / "var") as place:
        bind = place.settings.mqtt.embedded_bind
        settings = write_settings(
            folder, {"app": {"port": port}, "ws": {"port": port}, "mqtt": {"embedded_bind": bind}}
        )
        argv = [sys.executable, SUPERVISOR, "--settings", str(settings), "demo", "--participants", "20"]
        said, log = folder / "stdout", folder / "stderr"
        with said.open("wb") as out, log.open("wb") as err:
            process = subprocess.Popen(argv, stdout=out, stderr=err)
        try:
            until(lambda: process.poll() is not None or "Dashboard" in said.read_text(), "a link", 60)
            links = re.findall(r"^Dashboard: (\S+)$", said.read_text(), re.MULTILINE)
            assert len(links) == 1, log.read_text()
            yield links[0]
            process.terminate()
            assert process.wait(WITHIN_S) == 0, log.read_text()
        finally:
            process.kill()
            process.wait()


def test_one_click_later_the_race_is_moving(url: str, chrome: Browser) -> None:
    with chrome.tab() as tab:
        tab.open(url)
        wait_for_text(tab, "#summary", "20 participants")
        tab.until("document.querySelector('.row') !== null")
        tab.click(".row")
        wait_for_text(tab, "#panel-age", "ago")
        where = tab.run("document.getElementById('panel-place').textContent")
        tab.until(f"document.getElementById('panel-place').textContent !== {where!r}", "it moves")
        console_is_quiet(tab)
