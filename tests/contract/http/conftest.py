"""Two daemons for the tests of this folder."""

from __future__ import annotations

import pytest

from tests.kit.outside_world import World
from tests.kit.outside_world import world as world
from tests.kit.outsider import LISTED, Place


@pytest.fixture(scope="package")
def listed(world: World) -> Place:
    """Pages of one other origin may call, with credentials."""
    return world.start(ws={"cors_origin": LISTED, "cors_credentials": "yes"})


@pytest.fixture(scope="package")
def anyone(world: World) -> Place:
    """Pages of any origin may call; credentials are asked for, and must never be allowed."""
    return world.start(ws={"cors_origin": "*", "cors_credentials": "yes", "path": "/live/feed"})
