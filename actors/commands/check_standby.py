"""Whether the lock of nodes that stand by for each other can be had, for `check`."""

from __future__ import annotations

from collections.abc import Iterator

import trio

from actors.commands.check_servers import Finding
from actors.core.errors import StoreMisconfigured, StoreUnavailable
from actors.embedded.addresses import postgres_address
from actors.history.postgres.ingest_lock import PostgresLock, lock_address
from actors.settings.load import Settings


def lock(settings: Settings) -> Iterator[Finding]:
    """Reaches it as the daemon does, and leaves it to whoever has it."""
    where = lock_address(postgres_address(settings), settings.postgres.lock_host)
    asked = PostgresLock(where, settings.mqtt.client_id, settings.app.node_id)
    try:
        trio.run(asked.connect)
        yield Finding("ok", "stand-by", f"the lock of {settings.mqtt.client_id!r} can be asked for at {where.host}")
    except (StoreUnavailable, StoreMisconfigured) as error:
        yield Finding("FAILED", "stand-by", f"the lock at {where.host}:{where.port} cannot be asked for: {error}")
    finally:
        asked.close()
