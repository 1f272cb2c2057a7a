"""The supervision tree as plain values: what `supervisor.py status` shows."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from actors.supervision.child import Child, State
from actors.telemetry.health import Health

MOST_RACES = 50
"""Races listed one by one: those that are not running first; the rest is a count."""


def tree_status(
    children: Sequence[Child], races: Mapping[str, Child], health: Health, node_id: str, started_at: float
) -> dict[str, Any]:
    """The document of actors/supervision/control.py. `started_at` is of time.monotonic()."""
    by_need = sorted(races.items(), key=lambda item: item[1].state is State.RUNNING)
    rows = [_row(child) for child in children]
    rows += [_row(child) for _, child in by_need[:MOST_RACES]]
    return {
        "pid": os.getpid(),
        "node_id": node_id,
        "uptime_s": round(time.monotonic() - started_at, 1),
        "races": len(races),
        "actors": rows,
        "components": {name: {"up": c.up, "detail": c.detail} for name, c in health.components.items()},
    }


def deepest(children: Iterable[Child]) -> int:
    """Messages waiting in the deepest of their mailboxes."""
    return max((child.spec.depth() for child in children), default=0)


def _row(child: Child) -> dict[str, Any]:
    return {
        "actor": child.spec.name,
        "state": child.state.value,
        "restarts": child.restarts,
        "mailbox_depth": child.spec.depth(),
        "handled": child.spec.handled(),
        "last_crash": child.last_crash,
    }
