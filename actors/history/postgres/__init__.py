"""PostgreSQL on trio, without a thread.

across.py       questions to a table in partitions, along one index of each
addresses.py    the addresses that the host's name stands for
attaching.py    makes partitions, beside writers and readers
begin.py        pure: what each transaction sets for itself
binary.py       pure: values in PostgreSQL's binary form
converting.py   an empty table becomes one in partitions
ingest_lock.py  the lock of the node that reads, and what it leaves to the next one
libpq.py        driver: one connection to PostgreSQL on trio, no thread
migration.py    schema.sql, only what is missing
params.py       parameters of a statement
partitions.py   which ids have no partition?
reader.py       driver: reads from PostgreSQL, on connections of their own
reader_sql.py   the questions to history as SQL
recent.py       pure: what PostgreSQL has confirmed of late, kept to be written again
rows.py         driver: rows of PostgreSQL as fixes
search.py       the first of several connections that will do
sqlstate.py     driver: what an error of PostgreSQL means for us
standby.py      is a synchronous standby missing?
stream.py       driver: all rows of an export, by time or by participant
table_check.py  can we write the table that this database has?
writer.py       writes to PostgreSQL: one statement a batch
"""
