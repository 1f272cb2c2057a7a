"""Names that others rely on."""

from __future__ import annotations

from actors.cache.keys import Keys


def test_in_a_cluster_the_race_stands_in_braces() -> None:
    one, many = Keys(in_cluster=False), Keys(in_cluster=True)
    assert one.last("R1", "P1") == "race:R1:participant:P1:last"
    assert many.last("R1", "P1") == "race:{R1}:participant:P1:last"
    assert (one.seen("R1"), many.seen("R1")) == ("race:R1:seen", "race:{R1}:seen")
    assert (one.rank("R1"), many.rank("R1")) == ("race:R1:rank", "race:{R1}:rank")


def test_a_daemon_has_a_note_on_every_server_of_a_cluster() -> None:
    assert Keys(in_cluster=False).sentinel("n:x", "") == "tracking:node:n:x"
    assert Keys(in_cluster=True).sentinel("n:x", "7") == "tracking:node:n:x:{7}"
