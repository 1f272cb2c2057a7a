"""Live positions in Redis: a cache, which may be lost at any time.

calls.py         pure: commands; and positions to write -> calls of the script that writes them
cluster.py       driver: the nodes of a Redis Cluster, each command to the one that owns its key
connections.py   driver: connections to one Redis: short deadlines, no retries, a breaker
keys.py          pure: the names of our keys
live_state.py    ACTOR: the newest position of every participant, into Redis
redis.py         driver: the cache
redis_errors.py  driver: a Redis that is the wrong server, by name
redis_script.py  pure: the scripts that write live positions, and find out whether Redis was emptied
sentinel.py      the primary of those that Sentinels watch
servers.py       which server is asked: one, a primary, or the nodes of a cluster
slots.py         pure: which node of a cluster owns a key
stream.py        a stream, through which nodes tell each other what is live
"""
