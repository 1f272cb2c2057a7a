"""Live positions in Redis: a cache, which may be lost at any time.

live_state.py    ACTOR: the newest position of every participant, into Redis
redis.py         driver: the cache: short deadlines, no retries, a breaker
redis_errors.py  driver: a Redis that is the wrong server, by name
redis_script.py  pure: the script that writes live positions
"""
