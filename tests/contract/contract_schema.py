"""The tables that others may rely on, written down anew and compared with those of a database."""

from __future__ import annotations

from tests.kit.expected import STATUSES
from tests.kit.station import Station

COLUMNS = [
    ("id", "uuid", None, None, None, "NO", "gen_random_uuid()"),
    ("participant_id", "varchar", 50, None, None, "NO", None),
    ("race_id", "varchar", 50, None, None, "NO", None),
    ("latitude", "numeric", None, 10, 7, "NO", None),
    ("longitude", "numeric", None, 10, 7, "NO", None),
    ("client_timestamp", "timestamptz", None, None, None, "NO", None),
    ("server_received_at", "timestamptz", None, None, None, "NO", "now()"),
    ("status", "participant_status", None, None, None, "NO", "'moving'::participant_status"),
]
REJECTIONS = [
    ("id", "uuid"),
    ("received_at", "timestamptz"),
    ("topic", "text"),
    ("payload", "bytea"),
    ("code", "text"),
    ("detail", "text"),
]
INDEXES = {
    "tracking_positions_pkey": "UNIQUE (id)",
    "idx_tracking_participant_id": "(participant_id)",
    "idx_tracking_race_id": "(race_id)",
    "idx_tracking_participant_timestamp": "(participant_id, client_timestamp)",
    "idx_tracking_race_timestamp": "(race_id, client_timestamp)",
}


def check_schema(at: Station) -> None:
    columns = at.db.execute(
        """select column_name::text, udt_name::text, character_maximum_length::int,
             case when udt_name = 'numeric' then numeric_precision::int end,
             case when udt_name = 'numeric' then numeric_scale::int end, is_nullable::text, column_default::text
           from information_schema.columns where table_name = 'tracking_positions' order by ordinal_position"""
    ).fetchall()
    assert columns == COLUMNS
    rejections = at.db.execute(
        "select column_name::text, udt_name::text from information_schema.columns "
        "where table_name = 'tracking_rejections' order by ordinal_position"
    ).fetchall()
    assert rejections == REJECTIONS
    labels = at.db.execute(
        "select enumlabel::text from pg_enum where enumtypid = 'participant_status'::regtype order by enumsortorder"
    ).fetchall()
    assert tuple(label for (label,) in labels) == STATUSES
    keys = at.db.execute(
        """select t.relname::text, a.attname::text from pg_index i join pg_class t on t.oid = i.indrelid
           join pg_attribute a on a.attrelid = t.oid and a.attnum = any(i.indkey)
           where i.indisprimary and t.relname in ('tracking_positions', 'tracking_rejections') order by 1"""
    ).fetchall()
    assert keys == [("tracking_positions", "id"), ("tracking_rejections", "id")]
    indexes = dict(
        at.db.execute(
            """select indexname::text, (case when indexdef like 'CREATE UNIQUE%%' then 'UNIQUE ' else '' end)
                 || regexp_replace(indexdef, '^.* USING btree ', '')
               from pg_indexes where tablename = 'tracking_positions'""",
            (),
        ).fetchall()
    )
    assert {name: indexes.get(name) for name in INDEXES} == INDEXES
