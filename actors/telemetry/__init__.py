"""What the daemon says of itself: log, metrics, health, and what operators load.

health.py      which components can be used right now
log.py         one line an event to stderr, for a person or a machine
log_writer.py  driver: log lines to stderr from a thread of their own
metrics.py     everything that is counted
once.py        pure: a log line at most once a second, with a count of the rest
stall.py       how long the loop is held
"""
