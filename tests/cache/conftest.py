"""Fixtures of the tests of Redis."""

from tests.cache.redis_desk import raw as raw
from tests.cache.redis_desk import store as store
