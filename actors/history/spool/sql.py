"""The tables of the spool, and every statement on them. Fixes and rejections count their keys together."""

from __future__ import annotations

VERSION = 2  # 1 had no more than the id in the columns of that name

# Names are stored once a participant; of spooled_newest NEWEST reads one entry a participant.
TABLES = f"""
BEGIN;
CREATE TABLE IF NOT EXISTS participants (
    number INTEGER PRIMARY KEY, race_id TEXT NOT NULL, participant_id TEXT NOT NULL, UNIQUE (race_id, participant_id));
CREATE TABLE IF NOT EXISTS fixes (
    key INTEGER PRIMARY KEY, id BLOB NOT NULL UNIQUE, participant INTEGER NOT NULL, lat_e7 INTEGER NOT NULL,
    lon_e7 INTEGER NOT NULL, timestamp_ms INTEGER NOT NULL, status INTEGER NOT NULL, arrived_ms INTEGER NOT NULL,
    sent_timestamp TEXT NOT NULL);
CREATE INDEX IF NOT EXISTS spooled_newest ON fixes (participant, timestamp_ms);
CREATE TABLE IF NOT EXISTS rejections (
    key INTEGER PRIMARY KEY, id BLOB NOT NULL UNIQUE, received_ms INTEGER NOT NULL, topic BLOB NOT NULL,
    payload BLOB NOT NULL, code BLOB NOT NULL, detail BLOB NOT NULL, participant_id BLOB, race_id BLOB,
    sent_timestamp BLOB);
PRAGMA user_version = {VERSION};
COMMIT;
"""

PUT_PARTICIPANT = "INSERT INTO participants (race_id, participant_id) VALUES (?, ?) ON CONFLICT DO NOTHING"
PUT_FIX = """
INSERT INTO fixes VALUES (
    ?1, ?2, (SELECT number FROM participants WHERE race_id = ?3 AND participant_id = ?4), ?5, ?6, ?7, ?8, ?9, ?10)
ON CONFLICT (id) DO NOTHING
"""
PUT_REJECTION = "INSERT INTO rejections VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO NOTHING"

_FIX = "key, id, race_id, participant_id, lat_e7, lon_e7, timestamp_ms, status, arrived_ms, sent_timestamp"
# CROSS JOIN: in this order, so that `key` needs no sorting.
OLDEST = f"SELECT {_FIX} FROM fixes CROSS JOIN participants ON number = participant WHERE key > ? ORDER BY key LIMIT ?"
OLDEST_REJECTIONS = "SELECT * FROM rejections WHERE key > ? ORDER BY key LIMIT ?"
NEWEST = f"""
SELECT {_FIX} FROM participants CROSS JOIN fixes ON key = (
    SELECT key FROM fixes WHERE participant = number AND timestamp_ms <= arrived_ms + ?2 AND key > ?3
    ORDER BY timestamp_ms DESC, status DESC, id DESC LIMIT 1)
WHERE race_id = ?1
"""
REMOVE_FIXES = "DELETE FROM fixes WHERE key BETWEEN ? AND ?"
REMOVE_REJECTIONS = "DELETE FROM rejections WHERE key BETWEEN ? AND ?"
REMOVE_PARTICIPANTS = "DELETE FROM participants"
COUNT = """
SELECT (SELECT count(*) FROM fixes WHERE key BETWEEN ?1 AND ?2)
     + (SELECT count(*) FROM rejections WHERE key BETWEEN ?1 AND ?2)
"""
LAST_KEY = "SELECT max(ifnull((SELECT max(key) FROM fixes), 0), ifnull((SELECT max(key) FROM rejections), 0))"
