"""Python's search for objects that only hold each other, in steps of some ms.

Nearly everything goes without it, once nobody holds it: races and dashboards see to that, and it passes over fixes. To
search all that 10,000 races are made of takes 0.6 s of CPU on a busy machine, and finds nothing. So what has been
looked at twice is set aside, and only what is newer is searched.
"""

from __future__ import annotations

import gc
from collections.abc import Mapping

import attrs

LOOK_AT = 5_000
"""New objects until they are searched, for some 1 ms. At Python's own 700, a daemon of 1,000 races spent a tenth of its
time on that."""

LOOKS = 2
"""The second is at twice or three times as many, for some 5 ms; then they are set aside."""

ASIDE = 200
"""Times that some were set aside, 10,000 to 20,000 each, until everything is searched after all: the number of those
that nobody holds is bounded. 10,000 races are some 60 times."""


@attrs.define
class _SetAside:
    """Called by Python around each search."""

    times: int = 0

    def __call__(self, phase: str, info: Mapping[str, int]) -> None:
        if phase != "stop" or info["generation"] == 0:
            return
        self.times = 1 if info["generation"] == 2 else self.times + 1
        if self.times < ASIDE:
            gc.freeze()
        else:
            gc.unfreeze()  # so the next search is one of everything


def look_at_new_ones() -> None:
    """For this process from now on: what there is by now is never looked at."""
    gc.freeze()
    gc.set_threshold(LOOK_AT, LOOKS - 1, 0)
    gc.callbacks.append(_SetAside())
