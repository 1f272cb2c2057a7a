"""PostgreSQL, Valkey and a broker as child processes, for machines without servers of their own.

addresses.py      where the servers are, embedded or not
broker.py         mosquitto where it is installed, else NATS
nats.py           an own NATS server as a broker
postgres.py       driver: initdb, start and database of an own PostgreSQL
postgres_home.py  where the embedded PostgreSQL lives, and as whom it runs
process.py        child processes, recorded so that the next start finds them
servers.py        ACTOR: PostgreSQL, Valkey and a broker as child processes
valkey.py         an own Valkey
"""
