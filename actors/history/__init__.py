"""Parcels -> durable rows, on the disk of this node while PostgreSQL is away; and reading them.

ahead.py          partitions made ahead of their time
answers.py        what history answers to dashboards and HTTP: races, and pages of a race
batcher.py        pure: parcels -> batches, by size, time or idleness
breaker.py        pure: whether PostgreSQL is away, and when the spool takes over
committer.py      one batch into PostgreSQL; rows that it refuses are found
cursor.py         pure: the cursor of get_history as text
drain.py          out of the spool: its rows to PostgreSQL, the oldest first
export.py         pure: fixes as jsonl, csv, geojson, gpx
mailbox.py        what races and the reader hand to persistence
partitions.py     pure: fixes without a partition: what is settled without them, what an operator is told
periods.py        pure: months and weeks as ranges of ids; which of them have no partition
persistence.py    ACTOR: parcels in, committed rows out, and word that they are settled
queries.py        pure: what is asked of history, and the shapes of the answers
spool_account.py  the spool, and the account of its rows that the metrics give
spooling.py       while PostgreSQL is away: the breaker, the spool and the drain together
unplaced.py       rows for which PostgreSQL has no partition: where they wait, what is said of them
"""
