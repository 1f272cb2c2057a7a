"""`check` where nodes stand by for each other: can the lock be had?"""

from __future__ import annotations

from pathlib import Path

import attrs
import pytest

from actors.core.addresses import PostgresAddress
from actors.settings.load import Settings
from actors.settings.table import ClusterSettings
from tests.commands.check_settings import about, levels, with_postgres
from tests.commands.check_settings import impatient as impatient
from tests.commands.check_settings import settings as settings
from tests.kit.pooler import needs_pgbouncer, start_pgbouncer
from tests.kit.servers import free_port

pytestmark = pytest.mark.live


def standing_by(settings: Settings, server: PostgresAddress, lock_host: str = "") -> Settings:
    found = with_postgres(settings, server)
    postgres = attrs.evolve(found.postgres, lock_host=lock_host, spool=True)
    return attrs.evolve(found, cluster=ClusterSettings(ingest="standby", relay=True), postgres=postgres)


def test_it_is_there(settings: Settings, postgres_server: PostgresAddress) -> None:
    found = standing_by(settings, postgres_server)
    assert levels(found, "stand-by") == ["ok"]
    [_, spool] = about(found, "settings")
    assert spool.level == "warning"
    assert spool.text.startswith("[postgres] spool = yes with stand-by")


def test_it_is_somewhere_else(settings: Settings, postgres_server: PostgresAddress) -> None:
    nowhere = f"127.0.0.1:{free_port()}"
    [found] = about(standing_by(settings, postgres_server, nowhere), "stand-by")
    assert found.level == "FAILED"
    assert found.text.startswith(f"the lock at {nowhere} cannot be asked for: ")


@needs_pgbouncer
def test_behind_a_pooler(settings: Settings, postgres_server: PostgresAddress, tmp_path: Path) -> None:
    with start_pgbouncer(tmp_path, postgres_server, "transaction") as pooler:
        [found] = about(standing_by(settings, pooler.address), "stand-by")
        assert found.level == "FAILED"
        assert "lock_host must lead to PostgreSQL itself" in found.text
