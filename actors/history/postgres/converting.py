"""`tracking_positions`, empty, becomes a table in partitions by the time with which ids begin.

PostgreSQL cannot do that to a table: another one takes its place, in one transaction.
"""

from __future__ import annotations

from actors.history.postgres import migration
from actors.history.postgres.libpq import PostgresConnection, within
from actors.history.postgres.table_check import texts

CONVERT_S = 60.0

EMPTY = "select (not exists (select from tracking_positions))::text"
LOCKED = "lock table tracking_positions in access exclusive mode"

# What LIKE does not copy is made again as the catalog has it: owner, keys, indexes, triggers, comment, rights.
CONVERT = r"""
do $$
declare
  before regclass := 'tracking_positions';
  place text;
  owner text;
  again text[];
  statement text;
begin
  select relnamespace::regnamespace, relowner::regrole into place, owner from pg_class where oid = before;
  select array_agg(made order by nth) into again from (
    select 1, format('alter table %s add constraint %I %s', before, conname, pg_get_constraintdef(oid))
      from pg_constraint where conrelid = before and contype in ('p', 'u', 'f')
    union all
    select 2, pg_get_indexdef(indexrelid) from pg_index i
      where indrelid = before and not exists (select from pg_constraint where conindid = i.indexrelid)
    union all
    select 3, pg_get_triggerdef(oid) from pg_trigger where tgrelid = before and not tgisinternal
    union all
    select 4, format('comment on table %s is %L', before, obj_description(before)) where obj_description(before) <> ''
    union all
    select 5, format('grant %s%s on %s to %s%s', privilege_type, ' (' || quote_ident(of) || ')', before,
      case grantee when 0 then 'public' else grantee::regrole::text end, case when is_grantable then
        ' with grant option' else '' end)
      from (select null as of, relacl as rights from pg_class where oid = before
        union all select attname, attacl from pg_attribute where attrelid = before and not attisdropped) granted
      cross join aclexplode(rights) where grantee::regrole::text <> owner
  ) rest (nth, made);
  execute format('create table %s.tracking_partitioned (like %s including all excluding indexes)'
    ' partition by range (id)', place, before);
  execute format('alter table %s.tracking_partitioned owner to %s', place, owner);
  execute format('drop table %s', before);
  execute format('alter table %s.tracking_partitioned rename to tracking_positions', place);
  foreach statement in array again loop
    execute statement;
  end loop;
end $$"""


async def convert(connection: PostgresConnection) -> bool:
    """False: it has rows, and stays as it is. Otherwise all that schema.sql says is there afterwards, too.

    Raises StoreUnavailable (also when the table is busy for 5 s) or StoreMisconfigured.
    """
    with within(CONVERT_S):
        async with connection.transaction(f"set local lock_timeout = '{migration.WAIT_FOR_LOCK}'"):
            await connection.script(LOCKED)
            if not await is_empty(connection):
                return False
            await connection.script(CONVERT)
            await migration.complete(connection)
    return True


async def is_empty(connection: PostgresConnection) -> bool:
    """Whether it has no rows."""
    return await texts(connection, EMPTY) == [["true"]]
