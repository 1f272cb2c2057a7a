"""The contract of MQTT from outside: what trackers send over a real broker, and what stands in the tables then."""

from __future__ import annotations

import json
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from actors.core.addresses import PostgresAddress
from tests.contract.bad_input import ACCEPTED, BAD, LONG, text
from tests.kit.daemon import Running, until
from tests.kit.expected import fix, fix_id, now_ms, row, unix_ms, utc
from tests.kit.metrics import conserved
from tests.kit.station import Station, station
from tests.mqtt.mqtt_listener import listening

pytestmark = pytest.mark.live

DAY_MS = 86_400_000
Site = tuple[Station, Running]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, postgres_server: PostgresAddress) -> Iterator[Site]:
    """One daemon for the module: whatever it is sent, it goes on."""
    receipts: dict[str, object] = {"receipt_topic": "tracking/{participant_id}/receipt"}
    folder = tmp_path_factory.mktemp("ingest")
    with station(folder, postgres_server, mqtt=receipts) as at, at.daemon() as running:
        yield at, running


# --- bad input -------------------------------------------------------------------------------------------------


def test_each_bad_payload_is_one_rejection_with_its_code(site: Site) -> None:
    at, running = site
    # One message first, so that the counters are there.
    at.send(b"")
    running.settled(at.published)
    before = running.metrics()
    tomorrow = {"timestamp a day ahead": (text(timestamp=json.dumps(utc(now_ms() + DAY_MS + 60_000))), "in_the_future")}
    cases = BAD | tomorrow
    began = now_ms()
    at.send_all([(f"tracking/bad-{n}/position", payload) for n, (payload, _) in enumerate(cases.values())])
    seen = running.settled(at.published)
    stored = at.db.execute(
        "select topic, code, payload, (extract(epoch from received_at) * 1000)::bigint, detail, id "
        "from tracking_rejections where topic like 'tracking/bad-%%'",
        (),
    ).fetchall()
    found: dict[str, list[tuple[str, bytes]]] = {}
    for topic, code, payload, received_ms, detail, _ in stored:
        found.setdefault(topic, []).append((code, payload))
        assert began <= received_ms <= now_ms()
        assert detail
    wrong = {
        name: [code for code, _ in found.get(f"tracking/bad-{n}/position", [])]
        for n, (name, (payload, code)) in enumerate(cases.items())
        if found.get(f"tracking/bad-{n}/position") != [(code, payload[:4096])]
    }
    assert wrong == {}, "none else, exactly one row each, with the first 4,096 bytes"
    assert at.rows("bad") == []
    assert seen["tracking_fixes_rejected_total"] - before["tracking_fixes_rejected_total"] == len(cases)
    assert seen["tracking_acks_total"] == at.published
    for code in {code for _, code in cases.values()}:
        label = f'tracking_fixes_rejected_total{{code="{code}"}}'
        expected = sum(1 for _, c in cases.values() if c == code)
        assert seen[label] - before.get(label, 0) == expected, code
    assert conserved(seen)

    # The same again: counted, acknowledged, no further rows.
    at.send_all([(f"tracking/bad-{n}/position", payload) for n, (payload, _) in enumerate(cases.values())])
    again = running.settled(at.published)
    assert again["tracking_fixes_rejected_total"] - seen["tracking_fixes_rejected_total"] == len(cases)
    assert again["tracking_acks_total"] == at.published
    ((count,),) = at.db.execute("select count(*) from tracking_rejections where topic like 'tracking/bad-%%'", ())
    assert count == len(cases)
    assert conserved(again)


def test_each_odd_but_good_payload_is_exactly_its_row(site: Site) -> None:
    at, running = site
    expected = {}
    messages = []
    for n, (name, (payload, changed)) in enumerate(ACCEPTED.items()):
        race = f"ok-{n}"
        messages.append((f"tracking/ok-{n}/position", payload.replace(b'"bad"', json.dumps(race).encode())))
        if name == "as long as it may be":
            messages[-1] = (messages[-1][0], messages[-1][1].strip().ljust(LONG))
        expected[name] = [row(fix(race) | changed)]
    began = now_ms()
    at.send_all(messages)
    running.settled(at.published)
    found = {name: at.rows(f"ok-{n}") for n, name in enumerate(ACCEPTED)}
    assert {name: found[name] for name in found if found[name] != expected[name]} == {}
    assert at.db.execute("select topic from tracking_rejections where topic ~ '^tracking/ok-'").fetchall() == []
    ((first, last),) = at.db.execute(
        "select (extract(epoch from min(server_received_at)) * 1000)::bigint, "
        "(extract(epoch from max(server_received_at)) * 1000)::bigint from tracking_positions where race_id ~ '^ok-'"
    )
    assert began <= first <= last <= now_ms()


def rejected(at: Station, topic: str) -> list[str]:
    return [code for (code,) in at.db.execute("select code from tracking_rejections where topic = %s", (topic,))]


def test_receipts_after_the_commit_for_duplicates_and_rejections_too(site: Site) -> None:
    at, running = site
    good = fix("receipts", "Told", "2026-06-01T08:00:00.0Z")
    with listening(at.broker.port, "tracking/Told/receipt") as listener:
        at.send(good, good, good | {"latitude": 91})

        def told() -> list[str]:
            heard = [json.loads(payload) for _, payload in tuple(listener.messages)]
            return [text for one in heard for text in (*one["timestamps"], *(bad["code"] for bad in one["rejected"]))]

        until(lambda: len(told()) >= 3, "receipts")
        assert sorted(told()) == ["2026-06-01T08:00:00.0Z"] * 2 + ["bad_coordinate"]
        assert len(at.rows("receipts")) == 1
    assert conserved(running.settled(at.published))


# --- exactly once ----------------------------------------------------------------------------------------------


def test_the_example_has_the_id_of_the_contract(site: Site) -> None:
    at, running = site
    example = b"""{"participant_id": "P001", "race_id": "R2025-07", "latitude": -7.9456, "longitude": 112.6145,
     "timestamp": "2025-07-01T08:15:30Z", "status": "moving"}"""
    at.send(example)
    running.settled(at.published)
    (stored,) = at.rows("R2025-07")
    assert stored[0] == "0197c50e-2cd0-8308-91bb-9f03721812bf"
    assert stored == row(json.loads(example))
    assert uuid.UUID(stored[0]).version == 8


def test_the_same_fix_written_otherwise_is_the_same_row(site: Site) -> None:
    at, running = site
    one = fix("same", "Zoë", "2026-06-01T08:00:00.120Z", latitude=1.5, longitude=2.25)
    before = running.metrics()
    at.send(one)
    at.send(dict(reversed(one.items())))
    at.send(json.dumps(one, indent=2).encode(), topic="tracking/elsewhere/position")
    at.send(
        b'{"longitude":225e-2,"latitude":1.50000000,"race_id":"\\u0073ame","timestamp":"2026-06-01T10:00:00.1209+02:00",'
        b'"participant_id":"Zoe\\u0308","extra":[]}'
    )
    at.send([one, one])
    at.send(one, qos=0)
    seen = running.settled(at.published)
    assert at.rows("same") == [row(one)]
    assert seen["tracking_fixes_committed_total"] - before["tracking_fixes_committed_total"] == 1
    assert seen["tracking_fixes_duplicate_total"] - before["tracking_fixes_duplicate_total"] == 6
    assert conserved(seen)


def test_same_second_other_place_or_status_is_another_row(site: Site) -> None:
    at, running = site
    sent = [fix("two"), fix("two", latitude=47.5000001), fix("two", longitude=8.2500001), fix("two", status="stopped")]
    at.send(*sent)
    running.settled(at.published)
    assert at.rows("two") == sorted(row(each) for each in sent)


def test_retained_and_qos_0_are_ordinary_fixes(site: Site) -> None:
    at, running = site
    kept, loose = fix("kinds", "kept"), fix("kinds", "loose")
    at.send(kept, topic="tracking/kept/position", retain=True)
    at.send(loose, qos=0)
    at.send(b"rubbish", topic="tracking/loose-rubbish/position", qos=0)
    running.settled(at.published)
    assert at.rows("kinds") == sorted([row(kept), row(loose)])
    assert rejected(at, "tracking/loose-rubbish/position") == ["bad_json"]
    at.send(b"", topic="tracking/kept/position", retain=True)  # takes the retained message away
    running.settled(at.published)


# --- arrays ----------------------------------------------------------------------------------------------------


def test_in_an_array_each_element_is_judged_alone(site: Site) -> None:
    at, running = site
    before = running.metrics()
    good = [fix("array", f"P{n}") for n in range(3)]
    elements: list[tuple[str, str]] = [
        (json.dumps(good[0]), ""),
        ("null", "bad_type"),
        (json.dumps(good[1], indent=1), ""),
        ("[]", "bad_type"),
        (f"[{json.dumps(good[0])}]", "bad_type"),
        ("7", "bad_type"),
        ('{ "participant_id" : "P1" }', "missing_field"),
        ('{ "participant_id" : "P1" }', "missing_field"),
        (json.dumps(fix("array", latitude=91)), "bad_coordinate"),
        (json.dumps(fix("array") | {"note": "x" * 5000, "status": "x"}), "bad_status"),
        (json.dumps(good[2]), ""),
    ]
    at.send(("[" + " , ".join(text for text, _ in elements) + "]").encode(), topic="tracking/array/position")
    seen = running.settled(at.published)
    assert at.rows("array") == sorted(map(row, good))
    stored = at.db.execute("select payload, code from tracking_rejections where topic = 'tracking/array/position'")
    assert sorted(stored.fetchall()) == sorted((text.encode()[:4096], code) for text, code in elements if code)
    assert seen["tracking_fixes_received_total"] - before["tracking_fixes_received_total"] == len(elements)
    assert conserved(seen)


def test_an_array_may_have_1000_and_may_have_none(site: Site) -> None:
    at, running = site
    before = running.metrics()
    many = [fix("thousand", f"P{n}") for n in range(1000)]
    at.send([], topic="tracking/none/position")
    at.send(b" [ ] ", topic="tracking/none/position")
    at.send(json.dumps(many, separators=(",", ":")).encode())
    seen = running.settled(at.published)
    assert at.rows("thousand") == sorted(map(row, many))
    assert seen["tracking_fixes_received_total"] - before["tracking_fixes_received_total"] == 1000
    assert seen["tracking_acks_total"] - before["tracking_acks_total"] == 3
    assert rejected(at, "tracking/none/position") == []
    assert conserved(seen)


def test_a_broken_array_is_one_rejection(site: Site) -> None:
    at, running = site
    at.send(f"[{json.dumps(fix('torn'))}, {{]".encode(), topic="tracking/torn/position")
    running.settled(at.published)
    assert at.rows("torn") == []
    assert rejected(at, "tracking/torn/position") == ["bad_json"]


# --- time ------------------------------------------------------------------------------------------------------


def test_late_is_counted_stored_and_live_if_it_is_the_greatest(site: Site) -> None:
    at, running = site
    now = now_ms()
    first, older, newer = (fix("late", "P1", now - ago) for ago in (60_000, 120_000, 40_000))
    fresh = fix("late", "P2", now)
    before = running.metrics()
    at.send(first)
    until(lambda: running.live("late"))
    assert running.live("late")["P1"]["timestamp"] == first["timestamp"]
    at.send(older, newer, fresh)
    seen = running.settled(at.published)
    assert seen["tracking_fixes_late_total"] - before["tracking_fixes_late_total"] == 3
    until(lambda: running.live("late")["P1"]["timestamp"] == newer["timestamp"])
    assert at.rows("late") == sorted(map(row, (first, older, newer, fresh)))
    assert running.live("late")["P1"]["stale"] is True
    assert running.live("late")["P2"]["stale"] is False


def test_ahead_by_more_than_300_s_is_history_only_and_by_more_than_a_day_rejected(site: Site) -> None:
    at, running = site
    now = now_ms()
    live, ahead, far, near = (fix("skew", "P1", now + ms) for ms in (0, 310_000, DAY_MS - 10_000, 290_000))
    only = fix("skew", "P2", now + 400_000)
    beyond = fix("skew", "P1", now + DAY_MS + 10_000)
    at.send(live, ahead, only, far, beyond, topic="tracking/skew/position")
    running.settled(at.published)
    assert {p: position["timestamp"] for p, position in running.live("skew").items()} == {"P1": live["timestamp"]}
    at.send(near, topic="tracking/skew/position")
    until(lambda: running.live("skew")["P1"]["timestamp"] == near["timestamp"])
    running.settled(at.published)
    assert at.rows("skew") == sorted(map(row, (live, ahead, only, far, near)))
    assert rejected(at, "tracking/skew/position") == ["in_the_future"]
    until(lambda: near["timestamp"] in str(at.cache.get("race:skew:participant:P1:last")))
    assert at.cache.exists("race:skew:participant:P2:last") == 0
    assert at.cache.zrange("race:skew:seen", 0, -1) == ["P1"]


# --- other settings --------------------------------------------------------------------------------------------


def test_several_topics_topic_identity_mqtt_3_1_1_and_a_login(tmp_path: Path, postgres_server: PostgresAddress) -> None:
    passwords = tmp_path / "passwords"
    subprocess.run(["mosquitto_passwd", "-b", "-c", str(passwords), "me", "wörd%x"], check=True, capture_output=True)
    passwords.chmod(0o644)
    tmp_path.chmod(0o755)
    mqtt: dict[str, object] = {
        "topics": "tracking/+/position,\n  club/+/+/gps",
        "topic_identity": "participant_id",
        "protocol": "3.1.1",
        "username": "me",
        "password": "wörd%x",
    }
    lines = f"allow_anonymous false\npassword_file {passwords}"
    login = ("me", "wörd%x")
    with station(tmp_path, postgres_server, broker=lines, mqtt=mqtt) as at, at.daemon() as running:
        sent = [
            ("tracking/P1/position", fix("ti", "P1")),
            ("club/P2/x/gps", fix("ti", "P2")),
            ("tracking/P1/position", fix("ti", "P3")),
            ("club/x/P4/gps", fix("ti", "P4")),
            ("tracking/Zoe\u0308/position", fix("ti", "Zoë")),
            ("tracking/P5/position", fix("ti", "P5", latitude=91)),
            ("tracking/P6/position", [fix("ti", "P6"), fix("ti", "P7")]),
        ]
        at.send_all(sent, login=login)
        at.send_all([("other/P8/position", fix("ti", "P8"))], login=login)
        seen = running.settled(at.published - 1)
        assert seen["tracking_messages_received_total"] == at.published - 1
        stored = {name for _, name, *_ in at.rows("ti")}
        # The level must equal that field, and the field is normalised to NFC.
        assert stored - {"Zoë"} == {"P1", "P2", "P6"}
        codes = at.db.execute("select topic, code from tracking_rejections where topic !~ 'Zoe' order by topic, code")
        assert codes.fetchall() == [
            ("club/x/P4/gps", "topic_mismatch"),
            ("tracking/P1/position", "topic_mismatch"),
            ("tracking/P5/position", "bad_coordinate"),
            ("tracking/P6/position", "topic_mismatch"),
        ]
        assert "as tracking-backend (p2, c0, k15, u'me')" in at.broker.log, "p2 is how mosquitto calls MQTT 3.1.1"
        assert "wörd%x" not in running.log
        assert running.stop() == 0


def test_names_in_the_contract_are_the_names_in_the_database(site: Site) -> None:
    """id as text in both places, whatever made it."""
    at, running = site
    one = fix("naming", "P1", utc(now_ms()))
    at.send(one)
    running.settled(at.published)
    (stored,) = at.rows("naming")
    assert stored[0] == fix_id(one)
    assert int(stored[0].replace("-", "")[:12], 16) == unix_ms(one["timestamp"])
    with pytest.raises(psycopg.errors.UniqueViolation):
        at.db.execute("insert into tracking_positions select * from tracking_positions where race_id = 'naming'")
