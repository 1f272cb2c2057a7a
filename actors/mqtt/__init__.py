"""The link to the broker: one that stays, for the daemon, and one that drains, for the commands.

attempts.py              pure: which node of the broker is tried next, and when
bell.py                  driver: wakes a thread that waits for a socket
connection.py            driver: one connection to the broker, CONNECT to its end
deliveries.py            pure: messages of one connection on their way to the reader, PUBACKs on the way back
dialling.py              driver: dialling a node of the broker from a thread
drop_counts.py           pure: what mosquitto says it has thrown away
drops.py                 driver: the question to mosquitto what it throws away
end.py                   pure: why a connection to the broker ended, and what follows from it
events.py                pure: what the link to the broker tells the reader
forgetting.py            having the broker forget our session
link.py                  driver: a link to the broker that stays: the trio side
orders.py                what the trio side wants of the thread
outgoing.py              pure: receipts on their way, and those that the broker ends the connection at
paho.py                  driver: paho, with what was found wanting changed
pace.py                  pure: how long messages gather before they are read
probe.py                 does the broker deliver what it grants to a shared subscription?
probing.py               asking that until it is answered
publisher.py             driver: publishes for the commands, until all is acknowledged
publisher_connection.py  driver: one connection of the publisher
rival.py                 does another client use our client_id?
sharing.py               pure: whether a broker can share, and whether a node goes on
socket.py                the buffered socket under paho
splitter.py              pure: PUBLISH packets out of the broker's bytes
subscriptions.py         driver: our subscriptions, and old ones that the session may hold
thread.py                the thread that owns paho
version.py               pure: MQTT 5, or 3.1.1 where the broker does not have it
visit.py                 driver: a short connection with a clean session
"""
