"""Live positions in Redis: a cache, which may be lost at any time.

connections.py   driver: connections to Redis: short deadlines, no retries, a breaker
live_state.py    ACTOR: the newest position of every participant, into Redis
redis.py         driver: the cache
redis_errors.py  driver: a Redis that is the wrong server, by name
redis_script.py  pure: the script that writes live positions
stream.py        a stream, through which nodes tell each other what is live
"""
