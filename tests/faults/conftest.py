"""Fixtures of the fault tests."""

from tests.faults.outage import own as own
from tests.live.stores import database as database
from tests.live.stores import postgres_server as postgres_server
from tests.live.stores import redis_process as redis_process
