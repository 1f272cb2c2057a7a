"""dashboards/rate.py: what is refused, and what is flooding."""

from __future__ import annotations

from actors.dashboards.rate import Rate, Verdict


def verdicts(rate: Rate, per_s: float, seconds: float, start_s: float = 0.0) -> list[Verdict]:
    return [rate.request(start_s + i / per_s) for i in range(int(per_s * seconds))]


def test_one_second_of_requests_may_come_at_once_and_no_more() -> None:
    rate = Rate(50, 0.0)
    assert [rate.request(0.0) for _ in range(51)] == [Verdict.OK] * 50 + [Verdict.LIMITED]


def test_at_the_rate_nothing_is_ever_refused() -> None:
    assert set(verdicts(Rate(50, 0.0), per_s=49.9, seconds=60)) == {Verdict.OK}


def test_tokens_come_back_but_no_more_than_one_second_of_them() -> None:
    rate = Rate(10, 0.0)
    for _ in range(10):
        rate.request(0.0)
    assert rate.request(0.05) is Verdict.LIMITED
    assert [rate.request(100.0) for _ in range(11)] == [Verdict.OK] * 10 + [Verdict.LIMITED]


def test_three_seconds_over_the_rate_is_flooding() -> None:
    seen = verdicts(Rate(50, 0.0), per_s=200, seconds=10)
    first_refusal, first_flood = seen.index(Verdict.LIMITED), seen.index(Verdict.FLOODING)
    assert 2.99 <= (first_flood - first_refusal) / 200 <= 3.05


def test_a_calm_second_starts_the_three_seconds_anew() -> None:
    rate = Rate(50, 0.0)
    for start_s in (0.0, 5.0, 10.0):
        assert Verdict.FLOODING not in verdicts(rate, per_s=200, seconds=2.5, start_s=start_s)
