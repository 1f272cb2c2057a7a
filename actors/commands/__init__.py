"""One file a command of supervisor.py, and what they share.

arguments.py       pure: types of arguments that several take
check.py           validates, reaches, warns
check_nodes.py     who else is there
check_postgres.py  reaching an external PostgreSQL once
check_redis.py     driver: reaching an external Redis once
check_servers.py   driver: reaching an external broker once
check_sharing.py   whether a broker delivers what is shared
check_standby.py   whether the lock of nodes that stand by for each other can be had
demo.py            the daemon with a made-up race beside it
early_stop.py      a signal in the first second, before anybody listens
export.py          history to a file
export_files.py    what it is written to: one file, or a file a participant
leave.py           takes the node out for good
migrate.py         applies schema.sql
node_settings.py   of each node of several on this machine
nodes.py           several nodes on this machine, each a process
parser.py          the command line
publisher.py       what replay and simulate share
rejections.py      what was rejected and why
replay.py          publishes a recording
run.py             the daemon in the foreground; what supervisor.py hands to the commands
simulate.py        publishes a made-up race
simulated_race.py  pure: a made-up race
status.py          shows the tree
terminal.py        text for any terminal, and data
token.py           prints a dashboard token
unreceipted.py     pure: what a tracker keeps until its receipt
"""
