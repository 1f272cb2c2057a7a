-- Tables of the race tracking daemon (PostgreSQL 14 or newer). Can be run any number of times: psql -f schema.sql
--
-- The daemon reads this file too: every statement after a line `-- object: KIND NAME`, up to the next such line, makes
-- that object, and is run only when the catalog does not have it. Statements under `-- setting` are run before those.
-- All of it is one transaction, the daemon's own, or that of psql; nothing is left in the session.
-- A table that is there already, made by whoever, is taken as it is: only what is missing is added. On a large one
-- each missing index is built while writers wait (about 1 s a million rows): run `migrate` before race day.
begin;

-- setting
-- Names are looked up where the connection looks (search_path); temporary tables last, for the security definer below.
select set_config('search_path', current_setting('search_path') || ', pg_temp', true);

-- object: type participant_status
do $$ begin
  if to_regtype('participant_status') is null then
    create type participant_status as enum ('moving', 'stopped', 'finished', 'disqualified');
  end if;
end $$;

-- History: a row a fix. The daemon inserts, never changes and never deletes. Kept for ever: deleting is yours. (An id is
-- a function of the fix, actors/core/identity.py; who inserts by hand gets a random one.)
-- object: table tracking_positions
create table if not exists tracking_positions (
  id uuid primary key default gen_random_uuid(),
  participant_id varchar(50) not null,
  race_id varchar(50) not null,
  latitude numeric(10, 7) not null,
  longitude numeric(10, 7) not null,
  client_timestamp timestamptz not null,
  server_received_at timestamptz not null default now(),
  status participant_status not null default 'moving'
);

-- object: index idx_tracking_participant_id
create index if not exists idx_tracking_participant_id on tracking_positions (participant_id);

-- object: index idx_tracking_race_id
create index if not exists idx_tracking_race_id on tracking_positions (race_id);

-- object: index idx_tracking_participant_timestamp
create index if not exists idx_tracking_participant_timestamp on tracking_positions (participant_id, client_timestamp);

-- object: index idx_tracking_race_timestamp
create index if not exists idx_tracking_race_timestamp on tracking_positions (race_id, client_timestamp);

-- The newest fix of each participant of a race in one step each, and one participant's track in order. It and the two
-- before it stay half empty, because every participant's rows go on in the midst of the others': a REINDEX of the three
-- gives back a quarter of the disk.
-- object: index idx_tracking_race_participant_timestamp
create index if not exists idx_tracking_race_participant_timestamp
  on tracking_positions (race_id, participant_id, client_timestamp);

-- What broke a rule, and why. The daemon inserts; it deletes what is older than 30 days, and the oldest beyond a million
-- rows. (An id is a hash of topic, payload, element of the array and code; of a payload the first 4,096 bytes are kept.)
-- object: table tracking_rejections
create table if not exists tracking_rejections (
  id uuid primary key,
  received_at timestamptz not null,
  topic text not null,
  payload bytea not null,
  code text not null,
  detail text not null
);

-- object: index idx_tracking_rejections_received_at
create index if not exists idx_tracking_rejections_received_at on tracking_rejections (received_at);

-- Who took part in which race: the list of races would otherwise read millions of rows. Triggers keep it, so that it
-- is right whoever writes: a row stays as long as there are positions. (A delete beside an insert of the same
-- participant may leave it out until its next fix.)
-- object: table tracking_participants
create table if not exists tracking_participants (
  race_id varchar(50) not null,
  participant_id varchar(50) not null,
  primary key (race_id, participant_id)
);

-- Security definer: who may write positions needs no right of its own on tracking_participants.
-- object: function tracking_note_participants()
create or replace function tracking_note_participants() returns trigger
language plpgsql security definer set search_path from current as $$
begin
  if tg_op = 'TRUNCATE' then
    delete from tracking_participants;
    return null;
  end if;
  if tg_op in ('INSERT', 'UPDATE') then
    insert into tracking_participants (race_id, participant_id)
      select distinct race_id, participant_id from new_rows order by race_id, participant_id
      on conflict do nothing;
  end if;
  if tg_op in ('DELETE', 'UPDATE') then
    delete from tracking_participants t
      using (select distinct race_id, participant_id from old_rows) o
      where t.race_id = o.race_id and t.participant_id = o.participant_id and not exists (
        select from tracking_positions p where p.race_id = o.race_id and p.participant_id = o.participant_id);
  end if;
  return null;
end $$;

-- object: trigger tracking_participants_update
create or replace trigger tracking_participants_update after update on tracking_positions
  referencing old table as old_rows new table as new_rows
  for each statement execute function tracking_note_participants();

-- object: trigger tracking_participants_delete
create or replace trigger tracking_participants_delete after delete on tracking_positions
  referencing old table as old_rows for each statement execute function tracking_note_participants();

-- object: trigger tracking_participants_truncate
create or replace trigger tracking_participants_truncate after truncate on tracking_positions
  for each statement execute function tracking_note_participants();

-- The rows from before the trigger: from one (race, participant) to the next by the index, not by reading every row.
-- object: trigger tracking_participants_insert
create or replace trigger tracking_participants_insert after insert on tracking_positions
  referencing new table as new_rows for each statement execute function tracking_note_participants();
insert into tracking_participants (race_id, participant_id)
  with recursive pair as (
    (select race_id, participant_id from tracking_positions order by race_id, participant_id limit 1)
    union all
    (select following.race_id, following.participant_id from pair cross join lateral (
      select p.race_id, p.participant_id from tracking_positions p
        where (p.race_id, p.participant_id) > (pair.race_id, pair.participant_id)
        order by p.race_id, p.participant_id limit 1) following)
  )
  select race_id, participant_id from pair
  on conflict do nothing;

-- Triggers do not see what becomes of whole partitions: rows of one that is attached are there, those of one that is
-- dropped, detached or truncated are gone. So the daemon asks now and then (tracking_note_partitions). A row is a
-- partition and how far its participants have been noted; relation 0 is how far all participants have been looked at
-- since one went. Null: to the end. A TRUNCATE shows in filenode. Written by that function only; a row goes with its
-- partition.
-- object: table tracking_partitions
create table if not exists tracking_partitions (
  relation oid primary key,
  filenode oid not null,
  race_id varchar(50) default '',
  participant_id varchar(50) default ''
);
insert into tracking_partitions (relation, filenode) values (0, 0) on conflict do nothing;

-- Does a little of it, `most` participants, and says whether there is more. Changes nothing where there is nothing to
-- do. (A participant whose old rows went may be left out until its next fix, when one comes at the same moment.)
-- object: function tracking_note_partitions(integer)
create or replace function tracking_note_partitions(most integer) returns boolean
language plpgsql security definer set search_path from current as $$
declare
  todo tracking_partitions;
  last_race text;
  last_participant text;
begin
  if not pg_try_advisory_xact_lock(x'7061727473'::bigint) then
    return false;
  end if;
  delete from tracking_partitions t where relation <> 0 and not exists (
    select from pg_partition_tree('tracking_positions') p
      where p.isleaf and p.relid = t.relation and coalesce(pg_relation_filenode(p.relid), 0) = t.filenode);
  if found then
    update tracking_partitions set race_id = '', participant_id = '' where relation = 0;
  end if;
  insert into tracking_partitions (relation, filenode)
    select relid, coalesce(pg_relation_filenode(relid), 0) from pg_partition_tree('tracking_positions') where isleaf
    on conflict do nothing;
  select * into todo from tracking_partitions where race_id is not null order by relation desc limit 1;
  if not found then
    return false;
  end if;
  if todo.relation = 0 then
    with looked_at as (
      select race_id, participant_id from tracking_participants
        where (race_id, participant_id) > (todo.race_id, todo.participant_id)
        order by race_id, participant_id limit most
    ), gone as (
      delete from tracking_participants t using looked_at l
        where t.race_id = l.race_id and t.participant_id = l.participant_id and not exists (
          select from tracking_positions p where p.race_id = l.race_id and p.participant_id = l.participant_id)
    )
    select race_id, participant_id into last_race, last_participant from looked_at
      order by race_id, participant_id offset most - 1;
  else
    execute format($q$
      with recursive pair as (
        (select race_id, participant_id, 1 as nth from %1$s
          where (race_id, participant_id) > ($1, $2) order by race_id, participant_id limit 1)
        union all
        (select following.race_id, following.participant_id, nth + 1 from pair cross join lateral (
          select p.race_id, p.participant_id from %1$s p
            where (p.race_id, p.participant_id) > (pair.race_id, pair.participant_id)
            order by p.race_id, p.participant_id limit 1) following
          where nth < $3)
      ), noted as (
        insert into tracking_participants (race_id, participant_id)
          select race_id, participant_id from pair on conflict do nothing
      )
      select race_id, participant_id from pair where nth = $3 $q$, todo.relation::regclass)
      into last_race, last_participant using todo.race_id, todo.participant_id, most;
  end if;
  update tracking_partitions set race_id = last_race, participant_id = last_participant where relation = todo.relation;
  return true;
end $$;

-- How many participants a race has, to be summed over its parts: counting 100,000 rows takes 30 ms. A writer changes a
-- part that no open transaction holds and adds one where there is none, so nobody waits here: a race has as many parts
-- as it ever had writers at once. Exact for whoever reads, as the rows of tracking_participants are; a part may be
-- negative. Written by triggers only, kept for ever. (Under repeatable read or serializable two writers may meet in a
-- part: 40001, one of them tries again.)
-- object: table tracking_participant_counts
create table if not exists tracking_participant_counts (
  race_id varchar(50) not null,
  part bigint generated always as identity,
  participants integer not null,
  primary key (race_id, part)
);

-- Its argument is what a row of `changed` counts for: 1 or -1.
-- object: function tracking_count_participants()
create or replace function tracking_count_participants() returns trigger
language plpgsql security definer set search_path from current as $$
declare
  change record;
begin
  if tg_op = 'TRUNCATE' then
    delete from tracking_participant_counts;
    return null;
  end if;
  for change in select race_id, count(*) * tg_argv[0]::integer as participants from changed group by race_id loop
    update tracking_participant_counts set participants = participants + change.participants
      where race_id = change.race_id and part = (
        select part from tracking_participant_counts where race_id = change.race_id limit 1 for update skip locked);
    if not found then
      insert into tracking_participant_counts (race_id, participants) values (change.race_id, change.participants);
    end if;
  end loop;
  return null;
end $$;

-- object: trigger tracking_counts_update_old
create or replace trigger tracking_counts_update_old after update on tracking_participants
  referencing old table as changed for each statement execute function tracking_count_participants('-1');

-- object: trigger tracking_counts_update_new
create or replace trigger tracking_counts_update_new after update on tracking_participants
  referencing new table as changed for each statement execute function tracking_count_participants('1');

-- object: trigger tracking_counts_delete
create or replace trigger tracking_counts_delete after delete on tracking_participants
  referencing old table as changed for each statement execute function tracking_count_participants('-1');

-- object: trigger tracking_counts_truncate
create or replace trigger tracking_counts_truncate after truncate on tracking_participants
  for each statement execute function tracking_count_participants();

-- The rows from before the trigger, counted while no writer has changes of them that are not committed.
-- object: trigger tracking_counts_insert
create or replace trigger tracking_counts_insert after insert on tracking_participants
  referencing new table as changed for each statement execute function tracking_count_participants('1');
do $$ begin
  lock table tracking_participants in share row exclusive mode;
  delete from tracking_participant_counts;
  insert into tracking_participant_counts (race_id, participants)
    select race_id, count(*) from tracking_participants group by race_id;
end $$;

-- What the broker's session may hold, where nodes stand by for each other: the one that reads writes it for the next.
-- A row a client_id. `granted`: the broker granted some of the topics, so that there was a session.
-- object: table tracking_sessions
create table if not exists tracking_sessions (
  client_id text primary key,
  topics text[] not null,
  granted boolean not null,
  node_id text not null,
  written_at timestamptz not null
);

-- end
commit;
