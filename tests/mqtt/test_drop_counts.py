"""What the broker says it dropped becomes what is new."""

from __future__ import annotations

import pytest

from actors.mqtt.drop_counts import BrokerDrops, total_in


@pytest.mark.parametrize(
    ("payload", "total"),
    [(b"0", 0), (b"620", 620), (b"", None), (b"-1", None), (b"1.5", None), (b"no", None), (b"9" * 5000, None)],
)
def test_only_a_count_counts(payload: bytes, total: int | None) -> None:
    assert total_in(payload) == total


def test_the_first_count_is_where_it_begins() -> None:
    drops = BrokerDrops()
    assert [drops.more(total) for total in (600, 600, 620, 1000)] == [0, 0, 20, 380]


def test_a_broker_that_was_restarted_counts_from_0() -> None:
    drops = BrokerDrops()
    assert [drops.more(total) for total in (600, 0, 5, 3)] == [0, 0, 5, 3]


def test_it_is_said_at_most_once_a_minute() -> None:
    drops = BrokerDrops()
    drops.more(600)
    assert drops.to_say(0) == 0
    drops.more(620)
    assert drops.to_say(1) == 20
    drops.more(650)
    drops.more(651)
    assert drops.to_say(60) == 0
    assert drops.to_say(61) == 31
    assert drops.to_say(200) == 0
