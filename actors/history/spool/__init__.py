"""Rows on the disk of this node while PostgreSQL is away: SQLite, every commit synced.

errors.py  driver: how SQLite and the system say what is wrong with it
file.py    driver: rows in and out of its file, every commit synced
open.py    driver: opening it: settings, a look at the whole file, what is damaged put aside
rescue.py  driver: the readable rows of a damaged one
rows.py    pure: fixes and rejections as the spool's tables hold them
spool.py   driver: rows on this node's disk while PostgreSQL is away: the trio side
sql.py     pure: its tables and statements
"""
