"""The tables of README.md name what there is."""

from __future__ import annotations

import re
from importlib import resources

from actors.commands.parser import build
from actors.core.errors import RejectionCode
from actors.http.documents import openapi
from actors.settings.table import KEYS
from tests.kit.daemon import ROOT
from tests.kit.readme import README, anchor, headings


def table(heading: str) -> list[str]:
    """The code words that begin the rows of the tables under a heading."""
    section = README.split(f"\n### {heading}\n")[1].split("\n##")[0]
    return re.findall(r"^\| `([^`]+)`", section, re.MULTILINE)


def test_the_doors_lead_to_every_section_and_links_to_a_heading() -> None:
    """In the order in which the sections stand."""
    doors: dict[str, list[str]] = {}
    for row in re.findall(r"^\| \*\*\[.*", README, re.MULTILINE):
        door, *parts = re.findall(r"\[(.+?)\]\(", row)
        doors[door] = parts
    sections: dict[str, list[str]] = {}
    for level, text in headings():
        if level == 2:
            sections[text] = []
        elif level == 3:
            [*sections.values()][-1].append(text)
    assert doors == {door: parts for door, parts in sections.items() if parts}
    anchors = [anchor(text) for _, text in headings()]
    assert len(anchors) == len(set(anchors))
    links = re.findall(r"\]\((#.*?)\)", README)
    assert len(links) > 25
    assert set(links) - set(anchors) == set()


def test_the_tables_name_what_there_is() -> None:
    assert table("Rejections") == list(RejectionCode)
    listed = re.findall(r"^    (\w+) ", build().format_help().split("COMMAND\n")[1], re.MULTILINE)
    assert [row.split()[0] for row in table("Commands")] == listed


def test_it_names_every_path_and_every_alert() -> None:
    named = {
        path.partition("?")[0]
        for path in re.findall(r"^\| (`/.*?) \|", README, re.MULTILINE)
        for path in re.findall(r"`(.*?)`", path)
    }
    described = set(openapi()["paths"]) - {"/static/{name}"}
    assert named | {"/ops/grafana.json", "/ops/alerts.yml"} == described
    alerts = re.findall(
        r"alert: (\w+)", resources.files("actors.telemetry.ops").joinpath("alerts.yml").read_text("utf-8")
    )
    assert set(re.findall(r"\bTracking[A-Z]\w+", README)) == set(alerts)


def test_every_settings_key_it_names_exists() -> None:
    named = re.findall(r"\[(\w+)\] (\w+)", README)
    assert len(named) > 15
    assert [f"[{section}] {key}" for section, key in named if not _is_key(section, key)] == []


def _is_key(section: str, key: str) -> bool:
    keys = KEYS.get(section, {})
    return key in keys or key.removesuffix("_file") in keys


def test_every_test_that_the_guarantees_name_is_there() -> None:
    table = README.partition("| fault | promise | shown by |")[2].partition("\n\n")[0]
    named = re.findall(r"`((?:[a-z_]+/)+test_[a-z_]+\.py)`", table)
    assert len(named) > 25
    assert [
        path
        for path in named
        if "\ndef test_" not in (text := (ROOT / "tests" / path).read_text()) and "\nasync def test_" not in text
    ] == []
