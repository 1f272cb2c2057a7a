"""Several nodes: what becomes live on one of them is shown by all, by way of a stream in Redis.

elsewhere.py  what other nodes show, to the races of this one
entry.py      pure: what goes through the stream, and whether something of it is missing
frames.py     pure: a frame of another node: its positions, and the frame for our dashboards
mailbox.py    what the next entry will hold
others.py     pure: who else is there, and what of their settings cannot be right beside ours
relay.py      ACTOR: writes what our races show, reads what those of other nodes do
"""
