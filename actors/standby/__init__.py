"""Several nodes with one client_id: one of them reads the broker, the others wait for its turn to end.

gate.py     the reader's link to the broker, open while it is this node's turn
mark.py     in data_dir: that this node read last
standby.py  ACTOR: holds the lock, or waits for it; opens the gate and shuts it
topics.py   what the broker's session may hold, known to whoever reads
turn.py     pure: whose turn it is
"""
