"""Which node of a broker is tried next, when, and what is said of it."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from actors.core.addresses import Address
from actors.mqtt.attempts import Attempts

A, B, C = (Address(name, 1883) for name in "abc")


@given(st.integers(1, 4), st.integers(0, 200), st.floats(0, 1))
def test_all_take_turns_and_the_waits_grow_by_rounds(nodes: int, failures: int, chance: float) -> None:
    attempts = Attempts(tuple(Address("b", port) for port in range(nodes)))
    for number in range(failures):
        assert attempts.node.port == number % nodes
        wait_s = attempts.failed(0.2, 2.0, chance)
        full_s = min(2.0, 0.2 * 2 ** (number // nodes))
        assert max(0.2, full_s / 2) <= wait_s <= full_s
    attempts.lasted()
    assert attempts.failed(0.2, 2.0, 1.0) == 0.2


def test_a_reason_is_said_once_for_each_node_until_one_works() -> None:
    attempts = Attempts((A, B))
    said = []
    for reason in ("away", "away", "away", "full", "full", "full"):
        said.append(attempts.news(reason))
        attempts.failed(1, 1, 0)
    assert said == ["a:1883: away", "b:1883: away", "", "b:1883: full", "a:1883: full", ""]
    attempts.worked()
    assert attempts.news("full") == "a:1883: full"


def test_one_broker_needs_no_name() -> None:
    assert Attempts((C,)).news("away") == "away"
