"""Probes and metrics, and the names of the conservation law."""

from __future__ import annotations

import json
import re

import pytest
import trio
from prometheus_client.parser import text_string_to_metric_families

from tests.contract.http.paths import PROBES
from tests.kit.metrics import conserved, samples
from tests.kit.outsider import Place, fix, now_ms

pytestmark = pytest.mark.live

COMPONENTS = {"broker", "postgres", "redis", "spool", "websocket"}


@pytest.mark.parametrize("path", PROBES)
async def test_probes_need_no_token(listed: Place, path: str) -> None:
    assert (await listed.request(path)).status == 200


@pytest.mark.parametrize("path", ["/readyz", "/readyz/ingest"])
async def test_readiness_names_each_component(listed: Place, path: str) -> None:
    text = json.dumps((await listed.request(path)).json)
    assert {name for name in COMPONENTS if f'"{name}"' in text} == COMPONENTS


async def test_without_its_broker_dashboards_are_served_and_no_fixes_taken(listed: Place) -> None:
    listed.broker.stop()
    try:
        with trio.fail_after(30):
            while (await listed.request("/readyz/ingest")).status != 503:
                await trio.sleep(0.05)
        assert (await listed.request("/readyz")).status == 200
        assert (await listed.request("/healthz")).status == 200
        assert await listed.metric("component_up", component="broker") == 0
        assert await listed.metric("component_up", component="websocket") == 1
    finally:
        await trio.to_thread.run_sync(listed.broker.start)
    with trio.fail_after(30):
        while (await listed.request("/readyz/ingest")).status != 200:
            await trio.sleep(0.05)


async def test_all_metrics_are_there(listed: Place) -> None:
    await listed.stored(fix(listed.race(), "P1", now_ms()))
    await listed.publish("no object", {})
    await listed.until_metric("fixes_rejected_total", lambda value: value >= 2)
    answer = await listed.request("/metrics")
    assert answer.headers["content-type"].startswith("text/plain")
    families = {family.name: family for family in text_string_to_metric_families(answer.body.decode())}
    kinds = {
        "counter": [
            "messages_received", "acks", "fixes_late", "fixes_rejected", "mqtt_session_lost", "actor_restarts",
            "ws_frames", "ws_resyncs", "ws_dropped",
            "fixes_received", "fixes_recovered", "fixes_committed", "fixes_duplicate",
        ],
        "gauge": [
            "messages_unacked", "mailbox_depth", "ws_connections", "component_up", "fixes_spooled", "fixes_in_flight",
        ],
        "histogram": ["commit_seconds", "arrival_to_socket_seconds"],
    }  # fmt: skip
    for kind, names in kinds.items():
        for name in names:
            assert families[f"tracking_{name}"].type == kind, name
    samples = await listed.samples()
    for name in (
        "messages_received_total",
        "acks_total",
        "fixes_recovered_total",
        "ws_frames_total",
        "commit_seconds_count",
    ):
        assert (f"tracking_{name}", ()) in samples
    labels: dict[str, set[str]] = {}
    for name, having in samples:
        for label, value in having:
            labels.setdefault(f"{name}{{{label}}}", set()).add(value)
    assert labels["tracking_component_up{component}"] == COMPONENTS
    assert labels["tracking_fixes_rejected_total{code}"] >= {"bad_type", "missing_field"}
    assert {"reader", "race", "persistence"} <= labels["tracking_mailbox_depth{actor}"]
    assert "R-" not in answer.body.decode()  # never races
    assert await listed.metric("commit_seconds_count") >= 1


@pytest.mark.parametrize("path", ["/ops/alerts.yml", "/ops/grafana.json"])
async def test_what_operators_load_names_metrics_that_are_there(listed: Place, path: str) -> None:
    await listed.stored(fix(listed.race(), "P1", now_ms()))
    text = (await listed.request(path)).body.decode()
    named = set(re.findall(r"\b(?:tracking|process)_\w+", text))
    assert len(named) > 10
    # A reason is there once somebody was dropped for it.
    there = {
        re.sub("_(bucket|sum|count)$", suffix, name) for name, _ in await listed.samples() for suffix in ("", r"_\1")
    }
    assert named - there <= {"tracking_ws_dropped_total"}


async def test_the_conservation_law(listed: Place) -> None:
    one = fix(listed.race(), "P1", now_ms())
    await listed.publish(one, one, [one, {"bad": 1}, one], "rubbish", [])
    await listed.until_metric("fixes_in_flight", lambda value: value == 0)
    seen = samples((await listed.request("/metrics")).body.decode())
    assert seen["tracking_fixes_received_total"] > 0
    assert conserved(seen)
