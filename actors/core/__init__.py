"""The words that every room speaks: fix, rejection, parcel, position, ids, moments, addresses. All of it is pure.

addresses.py     pure: where servers listen, and how to log in; hosts and origins
broker_url.py    pure: where the broker listens, perhaps several nodes of it
errors.py        pure: codes of rejections and errors, and the tree of exceptions
file_name.py     pure: ids as names of files, and names as the system has them
fix.py           pure: a fix: one position of one participant at one moment
host_list.py     pure: where the servers of a store listen
identity.py      pure: ids that are functions of what they name
ids.py           pure: ids of participants and races: which are valid, and their one form
parcel.py        pure: what is settled as a whole, and word that it is
position.py      pure: a position as JSON, written and read back
printable.py     pure: texts of strangers for a person's eyes
quarantine.py    pure: which part of a piece of work crashes whoever does it
rejection.py     pure: what is kept of a payload that broke a rule, or of a fix that nobody can take
share.py         pure: shared subscriptions: their filters, and topics to try them on
timestamps.py    pure: moments as text and as Unix ms
topic_filter.py  pure: MQTT topic filters: which are valid, what they match
"""
