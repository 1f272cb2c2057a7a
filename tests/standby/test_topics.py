"""What the broker's session may hold."""

from __future__ import annotations

from pathlib import Path

from actors.mqtt.subscriptions import RememberedTopics
from actors.standby.topics import Known, SharedTopics


def test_it_begins_with_what_this_node_knew(tmp_path: Path) -> None:
    RememberedTopics(tmp_path, "us").write(frozenset({"a/+"}), granted=True)
    shared = SharedTopics(RememberedTopics(tmp_path, "us"))
    assert shared.known == Known(frozenset({"a/+"}), granted=True)


def test_what_is_written_is_known_at_once_and_to_the_next_start(tmp_path: Path) -> None:
    shared = SharedTopics(RememberedTopics(tmp_path, "us"))
    shared.write(frozenset({"b/+"}), granted=False)
    assert (shared.read(), shared.granted()) == (frozenset({"b/+"}), False)
    assert SharedTopics(RememberedTopics(tmp_path, "us")).known == Known(frozenset({"b/+"}), granted=False)


def test_a_folder_that_cannot_be_written_to_forgets_nothing_while_the_daemon_runs(tmp_path: Path) -> None:
    shared = SharedTopics(RememberedTopics(tmp_path / "none", "us"))
    shared.write(frozenset({"b/+"}), granted=True)
    assert shared.read() == {"b/+"}
