"""A plain table becomes one in partitions, and months come and go, while the daemon takes 500 messages a second."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path

import pytest

from actors.history.periods import Width, name_of, read_bounds, start_of
from tests.faults.outage import Own, RaceDay
from tests.faults.test_postgres_partitions import stored, what_to_do
from tests.kit.daemon import until
from tests.kit.expected import fix, fix_id, now_ms
from tests.kit.postgres import postgres_binaries
from tests.kit.readme import block

pytestmark = pytest.mark.live

RATE = 500
LEAVES = """select relid::regclass::text, pg_get_expr(relpartbound, relid) from pg_partition_tree('tracking_positions')
  join pg_class on oid = relid where isleaf order by 1"""
OLD = "2025-07-15T08:00:00.000Z"


def psql(own: Own, path: Path) -> str:
    """What it says of a script on stderr."""
    command = [str(postgres_binaries() / "psql"), "-X", "-q", "-v", "ON_ERROR_STOP=1", "-f", str(path)]
    at = own.at.postgres
    environment = {"PGHOST": at.host, "PGPORT": str(at.port), "PGUSER": at.user, "PGDATABASE": at.database}
    options = {"PGOPTIONS": "-c client_min_messages=debug1"}
    done = subprocess.run(command, env=os.environ | environment | options, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stderr


def leaves(own: Own) -> dict[str, str]:
    """Partitions and their bounds."""
    return {str(name): str(bounds) for name, bounds in own.sql(LEAVES)}


def participants(day: RaceDay, race: str) -> int:
    """As the list of races has them."""
    races = json.loads(day.running.get("/api/races")[1])["races"]
    return sum(each["participants"] for each in races if each["raceId"] == race)


def history(day: RaceDay, race: str) -> int:
    """How many fixes a page has."""
    return len(json.loads(day.running.get(f"/api/races/{race}/history?limit=50")[1])["positions"])


def start_anew(own: Own) -> None:
    """Without the tables of another test."""
    own.sql("drop table if exists tracking_positions, tracking_positions_before, tracking_partitions cascade")
    own.sql("drop table if exists tracking_participants, tracking_participant_counts cascade")


def test_a_table_with_rows_is_moved(own: Own, tmp_path: Path) -> None:
    """By the script of the readme as it stands: rows stay where they are, and nobody waits until they were read."""
    start_anew(own)
    script = tmp_path / "move.sql"
    script.write_text(block("sql", "NOT VALID"))
    with own.race("moved", rate=RATE) as day:
        own.sql("create role viewer; grant select on tracking_positions to viewer")
        own.at.send(fix("old", at=OLD))
        day.flows(RATE)
        place = own.sql("select pg_relation_filenode('tracking_positions')")
        said = psql(own, script)
        assert re.search(r'constraint for table "tracking_positions_before" is implied by existing constraints', said)
        assert own.sql("select pg_relation_filenode('tracking_positions_before')") == place
        day.flows(RATE)
        assert [*leaves(own)] == ["tracking_positions_before"]
        made = own.at.here(["migrate", "--partition", "month"])[0].stdout
        assert "nothing to change" in own.at.here(["migrate", "--partition", "month"])[0].stdout
        (behind,) = re.findall(r"created table (\w+)", made)
        assert [*leaves(own)] == sorted([behind, "tracking_positions_before"])
        period = read_bounds(leaves(own)[behind])
        assert period is not None
        assert name_of(period, Width.MONTH) == behind
        assert now_ms() + 28 * 86_400_000 < period.low_ms == start_of(period.low_ms, Width.MONTH)
        own.at.send(fix("after", at=now_ms()))
        day.flows(RATE)
        day.dashboards_follow()
        day.check()
        assert day.metric("fixes_rejected_total") == 0
        assert (participants(day, "moved"), participants(day, "old"), participants(day, "after")) == (5, 1, 1)
        assert (history(day, "moved"), history(day, "old")) == (50, 1)
        own.sql("set role viewer; select 1 from tracking_positions limit 1")
        triggers = "select tgname::text from pg_trigger where tgrelid = '{}'::regclass and not tgisinternal"
        assert len(own.sql(triggers.format("tracking_positions"))) == 4
        assert own.sql(triggers.format("tracking_positions_before")) == []
        assert own.at.here(["migrate", "--dry-run"])[0].stdout.endswith("nothing to change\n")
    own.sql("drop owned by viewer; drop role viewer")


def test_months_come_and_go(own: Own) -> None:
    """Made by the daemon, detached, attached, dropped: rows of others are not touched, and the list is right."""
    start_anew(own)
    told = own.at.here(["migrate", "--partition", "month", "--since", OLD[:10]])[0].stdout
    made = re.findall(r"table (\w+_\d+)\n", told)
    assert made[0] == "tracking_positions_2025_07"
    own.sql(f"drop table {made[-1]}")
    detach, attach = (text.strip() for text in block("sql", "DETACH PARTITION").split(";\n")[:2])
    attach = attach.partition("\n")[2]
    with own.race("months", rate=RATE) as day:
        until(lambda: made[-1] in leaves(own), "the daemon makes what is missing ahead")
        old = [fix("gone", f"P{number}", at=OLD) for number in range(20)]
        own.at.send(old, fix("gone", "P0", now_ms()))
        until(lambda: participants(day, "gone") == 20)
        before = len(day.running.log)
        own.sql(detach)
        day.flows(RATE)
        until(lambda: participants(day, "gone") == 1, "detached")
        assert history(day, "gone") == 1
        own.sql(attach)
        day.flows(RATE)
        until(lambda: participants(day, "gone") == 20, "attached")
        assert history(day, "gone") == 21
        own.sql(detach)
        own.sql("drop table tracking_positions_2025_07")
        until(lambda: participants(day, "gone") == 1, "dropped")
        day.flows(RATE)
        assert "component=postgres" not in day.running.log[before:]
        assert day.metric("fixes_without_partition") == 0
        own.at.send(fix("gone", "late", at=OLD))
        until(lambda: day.metric("fixes_without_partition") == 1, "what was dropped is not made again")
        assert "tracking_positions_2025_07" not in leaves(own)
        late = fix_id(fix("gone", "late", at=OLD))
        own.sql(what_to_do(day, "2025-07"))
        until(lambda: stored(own, late), "unless somebody does so")
        assert not stored(own, fix_id(old[0]))
        assert day.metric("fixes_rejected_total") == 0
        day.check()
