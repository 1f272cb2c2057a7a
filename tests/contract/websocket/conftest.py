"""Two daemons for the tests of this folder."""

from __future__ import annotations

import pytest

from tests.contract.websocket.boards import SLOW_MS, THRESHOLD_MS
from tests.kit.outside_world import World
from tests.kit.outside_world import world as world
from tests.kit.outsider import LISTED, Place


@pytest.fixture(scope="package")
def usual(world: World) -> Place:
    """The defaults, but for one origin that may connect."""
    return world.start(ws={"cors_origin": LISTED})


@pytest.fixture(scope="package")
def quick(world: World) -> Place:
    """Two ports, any origin, no window, everything soon."""
    return world.start(
        two_ports=True,
        app={"stale_data_threshold_ms": THRESHOLD_MS},
        ws={
            "batch_window_ms": 0,
            "max_requests_per_s": 5000,
            "max_message_bytes": 16384,
            "outbox_bytes": 65536,
            "send_timeout_ms": SLOW_MS,
        },
    )
