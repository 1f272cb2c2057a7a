"""Children that run, run again when they crash, stop in order; and the socket that tells about them.

child.py        a child runs until it is told to stop, and again when it crashes, within its budget
control.py      ACTOR: the control socket, which answers `supervisor.py status`
cycles.py       what Python's search for cycles looks at
restart.py      pure: crash times -> wait this long, or the budget is spent
serving.py      one life of the daemon in this process: signals, a guest beside it
status.py       the supervision tree as plain values
tree.py         children in start order, one stop for all of them
unix_socket.py  a listening Unix socket for its owner alone
"""
