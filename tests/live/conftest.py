"""Fixtures of the live tests."""

from tests.live.redis_desk import raw as raw
from tests.live.redis_desk import store as store
from tests.live.stores import database as database
from tests.live.stores import postgres_server as postgres_server
from tests.live.stores import redis_process as redis_process
from tests.live.stores import writer as writer
