"""What each transaction sets for itself.

Behind a pooler a session is anybody's: nothing of ours may stay in it, and what others left there must not count. So
nothing is set for a session; each transaction sets all that matters, in the same round trip.
"""

from __future__ import annotations

SERVER_SIDE_S = 9.5
"""A little under the deadlines of our calls: a statement that waits for a lock then ends on the server too, and the
connection stays."""

BEGIN = (
    # Whatever the default is: who waited for a lock must see what was committed meanwhile.
    "begin isolation level read committed",
    "set local search_path to default",
    "set local role to default",
    "set local synchronous_commit to default",
    # Compiling just in time costs 100 ms where the planner overrates a query that takes 10.
    "set local jit = off",
    f"set local statement_timeout = {int(SERVER_SIDE_S * 1000)}",
    "set local lock_timeout = 0",
)
BEGIN_SINCE_17 = "set local transaction_timeout = 0"
