"""The link that `demo` prints."""

from __future__ import annotations

from pathlib import Path

import attrs
import pytest

from actors.commands.demo import dashboard_url
from actors.commands.parser import build
from tests.kit.dashboards import ws_settings


@pytest.mark.parametrize(
    ("hosts", "name"),
    [
        (("127.0.0.1",), "127.0.0.1"),
        (("localhost",), "127.0.0.1"),
        (("0.0.0.0",), "127.0.0.1"),
        (("::",), "127.0.0.1"),
        (("::1",), "[::1]"),
        (("192.0.2.1", "::1"), "[::1]"),
        (("192.0.2.1", "::"), "127.0.0.1"),
        (("2001:db8::1", "race.example.org"), "[2001:db8::1]"),
    ],
)
def test_the_link_leads_to_an_address_that_listens(hosts: tuple[str, ...], name: str) -> None:
    settings = ws_settings(host=hosts, auth="off")
    for cert_file, scheme in ((None, "http"), (Path("x"), "https")):
        tls = attrs.evolve(settings.tls, cert_file=cert_file)
        assert dashboard_url(attrs.evolve(settings, tls=tls)) == f"{scheme}://{name}:0/"


@pytest.mark.parametrize("count", ["0", "10", "x"])
def test_how_many_nodes_there_may_be(count: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        build().parse_args(["demo", "--nodes", count])
    assert "argument --nodes: invalid " in capsys.readouterr().err
