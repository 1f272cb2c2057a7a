"""What PostgreSQL refuses: the row's fault, the set-up's, or a matter of time."""

from __future__ import annotations

import msgspec
import pytest

from actors.core.errors import RowRefused, StoreMisconfigured, StoreUnavailable
from actors.history.postgres.writer import PostgresWriter
from tests.kit.making import make_fix
from tests.kit.stores import COUNT, Database

pytestmark = pytest.mark.live


async def test_a_row_that_postgres_refuses_is_the_rows_fault(database: Database, writer: PostgresWriter) -> None:
    too_long = msgspec.structs.replace(make_fix(at_s=1), participant_id="P" * 51)
    with pytest.raises(RowRefused, match="value too long"):
        await writer.store([make_fix(), too_long])
    assert await database.rows(COUNT) == [["0"]]
    assert await writer.store([make_fix()]) == 1


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        ("add check (client_timestamp < '2001-01-01') not valid", RowRefused),
        ("add reviewed_by text", StoreMisconfigured),
    ],
)
async def test_a_fault_of_the_set_up_refuses_rows_that_are_there_already(
    database: Database, writer: PostgresWriter, fault: str, kind: type[Exception]
) -> None:
    """So rows sent again that are taken as duplicates show that the set-up is right (Committer.accepted)."""
    fix = make_fix()
    await writer.store([fix])
    await database.run(f"alter table tracking_positions {fault}")
    if "reviewed_by" in fault:
        await database.run("update tracking_positions set reviewed_by = 'me'")
        await database.run("alter table tracking_positions alter reviewed_by set not null")
    with pytest.raises(kind):
        await writer.store([fix])


async def test_a_read_only_database_is_unavailable(database: Database, writer: PostgresWriter) -> None:
    await database.run(f"alter database {database.address.database} set default_transaction_read_only = on")
    await writer.aclose()
    with pytest.raises(StoreUnavailable, match="read-only"):
        await writer.store([make_fix()])
    with pytest.raises(StoreUnavailable, match="read-only"):
        await writer.ping()  # which would tell that it is back
    await database.run("set default_transaction_read_only = off")
    await database.run(f"alter database {database.address.database} reset default_transaction_read_only")
    assert await writer.store([make_fix()]) == 1


async def test_a_changed_table_is_a_fault_of_the_set_up_until_it_is_mended(
    database: Database, writer: PostgresWriter
) -> None:
    await database.run("alter table tracking_positions rename column race_id to race")
    for _ in range(2):
        with pytest.raises(StoreMisconfigured, match="race_id"):
            await writer.store([make_fix()])
    await database.run("alter table tracking_positions rename column race to race_id")
    assert await writer.store([make_fix()]) == 1


async def test_a_table_that_would_round_in_silence_is_seen_at_every_connect(
    database: Database, writer: PostgresWriter
) -> None:
    await writer.store([make_fix()])
    await database.run("alter table tracking_positions alter latitude type numeric(10, 2)")
    await writer.aclose()
    with pytest.raises(StoreMisconfigured, match=r"column latitude is numeric\(10,2\)"):
        await writer.store([make_fix(at_s=1)])


async def test_a_row_without_a_partition_is_a_fault_of_the_set_up(database: Database, writer: PostgresWriter) -> None:
    await database.run("alter table tracking_positions rename to template")
    await database.run(
        "create table tracking_positions (like template including defaults, primary key (id)) partition by hash (id)"
    )
    await database.run("drop table template")
    await writer.aclose()
    with pytest.raises(StoreMisconfigured, match="no partition of relation"):
        await writer.store([make_fix()])


async def test_a_dropped_table_is_made_again(database: Database, writer: PostgresWriter) -> None:
    await database.run("drop table tracking_positions")
    with pytest.raises(StoreMisconfigured, match="does not exist"):
        await writer.store([make_fix()])
    assert await writer.store([make_fix()]) == 1


@pytest.mark.parametrize(
    ("state", "kind"),
    [
        ("57014", StoreUnavailable), ("53100", StoreUnavailable), ("40P01", StoreUnavailable),
        ("25006", StoreUnavailable), ("55P03", StoreUnavailable), ("58030", StoreUnavailable),
        ("08006", StoreUnavailable), ("XX001", StoreUnavailable),
        ("42501", StoreMisconfigured), ("28000", StoreMisconfigured), ("54000", StoreMisconfigured),
        ("22003", RowRefused), ("23514", RowRefused), ("44000", RowRefused), ("P0001", RowRefused),
    ],
)  # fmt: skip
async def test_each_class_of_error_means_what_it_says(
    database: Database, writer: PostgresWriter, state: str, kind: type[Exception]
) -> None:
    await database.run(
        "create function refuse() returns trigger language plpgsql as"
        f" $$ begin raise exception 'no' using errcode = '{state}'; end $$;"
        "create trigger refuse before insert on tracking_positions for each row execute function refuse()"
    )
    with pytest.raises(kind, match=f"no .SQLSTATE {state}") as caught:
        await writer.store([make_fix()])
    assert type(caught.value) is kind
    await database.run("drop trigger refuse on tracking_positions")
    assert await writer.store([make_fix()]) == 1


async def test_what_the_commit_refuses_is_refused(database: Database, writer: PostgresWriter) -> None:
    """The insert before it went through."""
    await database.run(
        "create function refuse() returns trigger language plpgsql as $$ begin raise exception 'too late'; end $$;"
        "create constraint trigger refuse after insert on tracking_positions"
        " initially deferred for each row execute function refuse()"
    )
    for _ in range(2):
        with pytest.raises(RowRefused, match="too late"):
            await writer.store([make_fix()])
    await database.run("drop trigger refuse on tracking_positions")
    assert await writer.store([make_fix()]) == 1
