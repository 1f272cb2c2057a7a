"""Messages of the broker -> fixes and rejections -> acknowledgements, in order, once all is durable.

broker_state.py  what the reader knows of the broker: up or down, its session, too quiet
decode.py        pure: topic and payload -> fixes and rejections: the quick way
departure.py     taking a node out: its session at the broker, then its spool
leaving.py       pure: unsubscribe, take what the session holds, end it: what is next
ledger.py        pure: what is taken and not acknowledged; which acknowledgements may go out now
messages.py      pure: what the reader is told
reader.py        ACTOR: takes messages from the broker, acknowledges what is durable
receipts.py      pure: what a tracker is told after the commit
silence.py       pure: nothing comes, though something could: said once
state.py         pure: what outlives a crash of the reader
validate.py      pure: topic and payload -> fixes and rejections: the careful way, which rule is broken
"""
