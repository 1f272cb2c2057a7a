"""Fixtures of the fault tests."""

from tests.live.stores import postgres_server as postgres_server
