"""`python supervisor.py demo` prints links, and one click later the race is moving; on each node while it is there."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.embedded.embedded_place import make_place, reachable_folder
from tests.kit.daemon import START_S, SUPERVISOR, WITHIN_S, until, write_settings
from tests.kit.servers import free_port
from tests.page.browser import Browser, Tab
from tests.page.conftest import console_is_quiet
from tests.page.looking import text, wait_for_text

pytestmark = pytest.mark.live


@contextmanager
def demo(*options: str) -> Iterator[str]:
    """What it has printed, which ends with its links. It ends with 0."""
    port = free_port()
    with reachable_folder() as folder, make_place(folder / "var") as place:
        bind = place.settings.mqtt.embedded_bind
        settings = write_settings(
            folder, {"app": {"port": port}, "ws": {"port": port}, "mqtt": {"embedded_bind": bind}}
        )
        argv = [sys.executable, SUPERVISOR, "--settings", str(settings), "demo", "--participants", "20", *options]
        said, log = folder / "stdout", folder / "stderr"
        with said.open("wb") as out, log.open("wb") as err:
            process = subprocess.Popen(argv, stdout=out, stderr=err)
        try:
            until(lambda: process.poll() is not None or "Ctrl-C" in said.read_text(), "a link", 2 * START_S)
            yield said.read_text() + log.read_text()
            process.terminate()
            assert process.wait(WITHIN_S) == 0, log.read_text()
        finally:
            process.kill()
            process.wait()


def links(said: str, what: str) -> list[str]:
    return re.findall(rf"^{what}: (\S+)$", said, re.MULTILINE)


def is_moving(tab: Tab) -> None:
    tab.until("document.querySelector('.row') !== null")
    tab.click(".row")
    wait_for_text(tab, "#panel-age", "ago")
    where = tab.run("document.getElementById('panel-place').textContent")
    tab.until(f"document.getElementById('panel-place').textContent !== {where!r}", "it moves")


def test_one_click_later_the_race_is_moving(chrome: Browser) -> None:
    with demo() as said, chrome.tab() as tab:
        (url,) = links(said, "Dashboard")
        tab.open(url)
        wait_for_text(tab, "#summary", "20 participants")
        is_moving(tab)
        console_is_quiet(tab)


def test_a_node_that_is_killed_is_missed_on_its_page_alone(chrome: Browser) -> None:
    with demo("--nodes", "2") as said, chrome.tab() as here, chrome.tab() as there:
        for tab, url in zip((here, there), links(said, r"Dashboard of node-\d"), strict=True):
            tab.open(url)
        for tab, name in ((here, "node-1"), (there, "node-2")):
            wait_for_text(tab, "#connection", "Live")
            assert text(tab, "#node") == f"Node {name}"
        is_moving(there)
        (pid,) = re.findall(r"kill -9 (\d+) +# node-2$", said, re.MULTILINE)
        os.kill(int(pid), signal.SIGKILL)
        wait_for_text(there, "#connection", "Connection lost")
        assert text(there, "#node") == "Node node-2"
        is_moving(here)
        assert text(here, "#connection") == "Live"
        console_is_quiet(here)
