"""Alert rules and Grafana dashboard: every metric in them exists, and each rule fires when it should."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from actors.telemetry.metrics import Metrics

OPS = resources.files("actors.telemetry.ops")
ALERTS = OPS.joinpath("alerts.yml").read_text("utf-8")
GRAFANA: dict[str, Any] = json.loads(OPS.joinpath("grafana.json").read_text("utf-8"))
RULES: list[dict[str, Any]] = [rule for group in yaml.safe_load(ALERTS)["groups"] for rule in group["rules"]]
EXPRESSIONS = [target["expr"] for panel in GRAFANA["panels"] for target in panel["targets"]]
PROMTOOL = shutil.which("promtool")

WORLD = {  # metric -> what Prometheus scrapes every minute while all is well; `increase by x number of times`
    "tracking_messages_received_total": "0+600x120",
    "tracking_fixes_received_total": "0+600x120",
    "tracking_fixes_committed_total": "0+600x120",
    "tracking_fixes_recovered_total": "0x120",
    "tracking_fixes_duplicate_total": "0x120",
    'tracking_fixes_rejected_total{code="bad_json"}': "0x120",
    "tracking_fixes_spooled": "0x120",
    "tracking_fixes_without_partition": "0x120",
    "tracking_fixes_in_flight": "0x120",
    "tracking_oldest_unacked_seconds": "0.1x120",
    "tracking_in_flight_ratio": "0.01x120",
    "tracking_mqtt_session_lost_total": "0x120",
    "tracking_broker_dropped_total": "0x120",
    'tracking_component_up{component="broker"}': "1x120",
    "tracking_ingest_reading": "1x120",
    'tracking_actor_restarts_total{actor="race"}': "0x120",
    'tracking_actors_parked{actor="race"}': "0x120",
    "tracking_ws_connections": "3x120",
    "tracking_loop_stall_seconds_count": "0+6000x120",
    'tracking_loop_stall_seconds_bucket{le="0.5"}': "0+6000x120",
    "process_start_time_seconds": "0x120",
}
TROUBLE: dict[str, dict[str, str]] = {  # alert -> what is different then; at minute 60 it fires
    "TrackingNotScraped": {'tracking_component_up{component="broker"}': "1x50"},
    "TrackingDataFlowStopped": {"tracking_messages_received_total": "0+600x50 30000x70"},
    "TrackingOldestUnacknowledged": {"tracking_oldest_unacked_seconds": "0x56 31+60x64"},
    "TrackingComponentDown": {'tracking_component_up{component="broker"}': "1x57 0x63"},
    "TrackingNobodyReads": {"tracking_ingest_reading": "1x57 0x63"},
    "TrackingSessionLost": {"tracking_mqtt_session_lost_total": "0x50 1x70"},
    "TrackingBrokerDropped": {"tracking_broker_dropped_total": "0x50 620x70"},
    "TrackingMailboxFull": {"tracking_in_flight_ratio": "0.5x55 0.99x65"},
    "TrackingLoopHeld": {'tracking_loop_stall_seconds_bucket{le="0.5"}': "0+6000x57 347998+6000x62"},
    "TrackingActorRestarted": {'tracking_actor_restarts_total{actor="race"}': "0x50 1x70"},
    "TrackingDaemonRestarts": {"process_start_time_seconds": "0x40 2400x5 2700x75"},
    "TrackingRaceParked": {'tracking_actors_parked{actor="race"}': "0x50 1x70"},
    "TrackingManyRejections": {
        'tracking_fixes_rejected_total{code="bad_json"}': "0+100x120",
        "tracking_fixes_committed_total": "0+500x120",
    },
    "TrackingPartitionMissing": {"tracking_fixes_without_partition": "0x57 1x63"},
    "TrackingFixesUnaccountedFor": {"tracking_fixes_committed_total": "0+599x120"},
}


def names(expression: str) -> set[str]:
    """Metrics in PromQL that are ours, or of the process."""
    return set(re.findall(r"\b(?:tracking|process)_\w+", expression))


def test_every_metric_exists_with_its_labels() -> None:
    metrics = Metrics()
    for gauge in (metrics.mailbox_depth, metrics.actor_restarts, metrics.actors_parked):
        gauge.labels(actor="race")
    metrics.component_up.labels(component="broker")
    metrics.ws_dropped.labels(reason="slow")
    families = text_string_to_metric_families(generate_latest(metrics.registry).decode())
    labels: dict[str, set[str]] = {}
    for family in families:
        for sample in family.samples:
            labels.setdefault(sample.name, set()).update(sample.labels)
    for expression in [*EXPRESSIONS, *(rule["expr"] for rule in RULES)]:
        assert names(expression)
        assert names(expression) <= set(labels), expression
        having = set.union(*(labels[name] for name in names(expression)))
        for by in re.findall(r"(?:by|without) \((.*?)\)", expression):
            assert set(by.split(", ")) <= having, expression


def test_every_metric_of_ours_is_shown() -> None:
    there = {
        f"{family.name}_total" if family.type == "counter" else family.name for family in Metrics().registry.collect()
    }
    shown = {re.sub("_bucket$", "", name) for expression in EXPRESSIONS for name in names(expression)}
    assert {name for name in there if name.startswith("tracking_")} == {n for n in shown if n.startswith("tracking_")}


def test_rules_say_what_is_wrong_and_how_bad_it_is() -> None:
    assert [rule["alert"] for rule in RULES] == list(TROUBLE)
    for rule in RULES:
        assert rule["labels"]["severity"] in ("critical", "warning")
        assert set(rule["annotations"]) == {"summary", "description"}


def test_the_dashboard_can_be_imported() -> None:
    assert GRAFANA["schemaVersion"] >= 36
    assert [panel["id"] for panel in GRAFANA["panels"]] == list(range(1, len(GRAFANA["panels"]) + 1))
    taken: set[tuple[int, int]] = set()
    for panel in GRAFANA["panels"]:
        place = panel["gridPos"]
        cells = {(place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])}
        assert place["x"] + place["w"] <= 24
        assert not cells & taken, panel["title"]
        taken |= cells
        assert panel["datasource"]["uid"] == "${datasource}"
        assert [target["refId"] for target in panel["targets"]] == list("ABCDEFGH"[: len(panel["targets"])])


@pytest.mark.skipif(PROMTOOL is None, reason="apt-get install prometheus")
def test_promtool_takes_the_rules_and_the_queries(tmp_path: Path) -> None:
    queries = [expression.replace("$__rate_interval", "5m") for expression in EXPRESSIONS]
    shown = {"groups": [{"name": "g", "rules": [{"record": f"r{n}", "expr": expr} for n, expr in enumerate(queries)]}]}
    (tmp_path / "alerts.yml").write_text(ALERTS)
    (tmp_path / "shown.yml").write_text(yaml.safe_dump(shown))
    _promtool("check", "rules", "alerts.yml", "shown.yml", folder=tmp_path)


@pytest.mark.skipif(PROMTOOL is None, reason="apt-get install prometheus")
def test_promtool_has_nothing_to_say_about_the_metrics(tmp_path: Path) -> None:
    assert _promtool("check", "metrics", folder=tmp_path, given=generate_latest(Metrics().registry).decode()) == ""


@pytest.mark.skipif(PROMTOOL is None, reason="apt-get install prometheus")
def test_each_rule_fires_in_its_trouble_alone(tmp_path: Path) -> None:
    def case(trouble: dict[str, str], firing: str) -> dict[str, Any]:
        series = [{"series": name, "values": values} for name, values in {**WORLD, **trouble}.items()]
        expected = [{"eval_time": "60m", "alertname": rule["alert"], "exp_alerts": []} for rule in RULES]
        if firing:
            expected = [one for one in expected if one["alertname"] != firing]
            expr = f'count(ALERTS{{alertname="{firing}", alertstate="firing"}})'
            fires = [{"expr": expr, "eval_time": "60m", "exp_samples": [{"value": 1, "labels": "{}"}]}]
        else:
            fires = []
        return {"interval": "1m", "input_series": series, "alert_rule_test": expected, "promql_expr_test": fires}

    cases = [case({}, ""), *(case(trouble, alert) for alert, trouble in TROUBLE.items())]
    (tmp_path / "alerts.yml").write_text(ALERTS)
    (tmp_path / "test.yml").write_text(yaml.safe_dump({"rule_files": ["alerts.yml"], "tests": cases}, sort_keys=False))
    _promtool("test", "rules", "test.yml", folder=tmp_path)


def _promtool(*arguments: str, folder: Path, given: str = "") -> str:
    assert PROMTOOL is not None
    done = subprocess.run([PROMTOOL, *arguments], cwd=folder, input=given, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr
