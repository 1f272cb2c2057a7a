"""Fixtures of the page's tests: one Chromium, and servers with one daemon, for all of them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol
from urllib.parse import urlencode

import pytest

from actors.core.addresses import PostgresAddress
from tests.kit.daemon import Running
from tests.kit.station import Station, station
from tests.kit.tokens import token
from tests.page.browser import Browser, Tab, browser, chromium

STALE_MS = 60_000  # long enough for a page to be opened and looked at on a slow machine


class Visit(Protocol):
    """Opens the page on a race; what must hold in every test is checked when it is left."""

    def __call__(
        self, race: str, *, port: int = 0, signed: str = "", before: str = ""
    ) -> AbstractContextManager[Tab]: ...


@pytest.fixture(scope="session")
def chrome(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    if chromium() is None:
        pytest.skip("Chromium is not installed: apt-get install chromium")
    with browser(tmp_path_factory.mktemp("chromium")) as running:
        yield running


@pytest.fixture(scope="package")
def at(tmp_path_factory: pytest.TempPathFactory, postgres_server: PostgresAddress) -> Iterator[Station]:
    with station(tmp_path_factory.mktemp("page"), postgres_server, app={"stale_data_threshold_ms": STALE_MS}) as made:
        yield made


@pytest.fixture(scope="package")
def running(at: Station) -> Iterator[Running]:
    with at.daemon() as process:
        yield process


def address(port: int, race: str, signed: str) -> str:
    return f"http://127.0.0.1:{port}/#{urlencode({'race': race, 'token': signed})}"


def asked_only(tab: Tab, port: int, signed: str) -> None:
    """No request to another host; the token is in no address and no Referer, and no longer in the address bar."""
    hosts = {request["url"].split("/")[2] for request in tab.requests if not request["url"].startswith("data:")}
    assert hosts <= {f"127.0.0.1:{port}"}, hosts
    for request in tab.requests:
        assert signed not in request["url"].partition("#")[0]
        assert not request["headers"].get("Referer"), request
    assert signed not in tab.run("location.href")


def console_is_quiet(tab: Tab, *noise: str) -> None:
    """`noise` are parts of lines that the browser itself writes when a connection is lost or refused."""
    loud = [line for line in tab.console if not any(part in line for part in noise)]
    assert not loud, json.dumps(loud)


@pytest.fixture
def visit(chrome: Browser, running: Running) -> Visit:
    @contextmanager
    def opened(race: str, *, port: int = 0, signed: str = "", before: str = "") -> Iterator[Tab]:
        signed = signed or token()
        port = port or running.port
        with chrome.tab(before=before) as tab:
            tab.open(address(port, race, signed))
            yield tab
            asked_only(tab, port, signed)
            console_is_quiet(tab)
            assert signed not in running.log

    return opened
