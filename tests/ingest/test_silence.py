"""A silence is said once, when it has lasted while something could have come."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from actors.ingest.silence import Silence

AFTER_S = 10


@given(st.lists(st.sampled_from(["may end", "ours", "ended", "wait"]), max_size=60))
def test_it_is_due_once_after_so_long(events: list[str]) -> None:
    silence = Silence(AFTER_S)
    now, since, said = 0, None, False
    for event in events:
        match event:
            case "may end":
                silence.may_end(now)
                since = now
            case "ours":
                silence.is_ours()
                since = None
            case "ended":
                silence.ended(now)
                since, said = now, False
            case "wait":
                now += AFTER_S // 2
        due = since is not None and now - since >= AFTER_S and not said
        assert silence.is_due(now) == due
        said = said or due
