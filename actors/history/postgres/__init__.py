"""PostgreSQL on trio, without a thread.

binary.py       pure: values in PostgreSQL's binary form
libpq.py        driver: one connection to PostgreSQL on trio, no thread
migration.py    schema.sql, only what is missing
partitions.py   which ids have no partition?
reader.py       driver: reads from PostgreSQL, on connections of their own
reader_sql.py   the questions to history as SQL
sqlstate.py     driver: what an error of PostgreSQL means for us
standby.py      is a synchronous standby missing?
table_check.py  can we write the table that this database has?
writer.py       writes to PostgreSQL: one statement a batch
"""
