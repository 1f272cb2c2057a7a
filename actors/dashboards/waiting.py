"""Connections that wait for a request: so many, each so long.

Nobody can keep others out by saying nothing: beyond the limit who comes is still heard, in a few places more, where the
one that has waited longest gives way. A request mostly comes at once, so who has none yet may never have one.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import attrs
import trio

from actors.http.problem import Problem, unavailable

EXTRA = 50  # places beyond the limit

Places = dict[trio.CancelScope, None]  # in the order of arrival


@attrs.define(eq=False)
class Waiting:
    """All of them: before a first request, in the middle of any head, and idle between two requests."""

    most: int
    _heads: Places = attrs.field(factory=dict, init=False)  # with `_idle` at most `most`
    _idle: Places = attrs.field(factory=dict, init=False)
    _extra: Places = attrs.field(factory=dict, init=False)

    def __len__(self) -> int:
        return len(self._heads) + len(self._idle) + len(self._extra)

    @property
    def full(self) -> bool:
        """Whether all places but the extra ones are taken by who has not finished a head."""
        return len(self._heads) >= self.most

    @contextmanager
    def for_head(self, timeout_s: float) -> Iterator[None]:
        """Around reading one. Raises Problem when it does not come in time, or gives way."""
        places = self._heads
        if self.full:
            places = self._extra
            _leave_one_free(places, EXTRA)
        else:
            _leave_one_free(self._idle, self.most - len(self._heads))
        with _one_of(places, timeout_s):
            yield

    @contextmanager
    def idle(self, timeout_s: float) -> Iterator[None]:
        """Around the wait for a further request. Raises Problem when it does not come; others come first."""
        if self.full:
            raise unavailable("too many connections wait for a request")
        _leave_one_free(self._idle, self.most - len(self._heads))
        with _one_of(self._idle, timeout_s):
            yield


def _leave_one_free(places: Places, of: int) -> None:
    while len(places) >= of:
        longest = next(iter(places))
        del places[longest]
        longest.cancel()


@contextmanager
def _one_of(places: Places, timeout_s: float) -> Iterator[None]:
    scope = trio.CancelScope(deadline=trio.current_time() + timeout_s)
    places[scope] = None
    try:
        with scope:
            yield
        gave_way = scope not in places
    finally:
        places.pop(scope, None)
    if scope.cancelled_caught and gave_way:
        raise unavailable("too many connections wait for a request")
    if scope.cancelled_caught:
        raise Problem(408, "the request did not come in time")
