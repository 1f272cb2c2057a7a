"""What is live: one actor a race, the directory that starts, restarts and retires them.

alarm.py           when a race has to look up by itself
directory.py       ACTOR: the directory of races; starts and retires them
gatherer.py        many who ask at about the same time -> few questions about many
live_positions.py  pure: one race: live positions, who is stale, what a set of fixes changes
mailbox.py         the messages for one race, in order: a memory channel
messages.py        pure: what a race is told
race.py            ACTOR: one race, its live positions and who watches them
restore.py         what a race knows when it starts
restoring.py       reading a race again, for as long as something may be missing
shortcut.py        an optimisation: a fix is done in the reader's turn where its race waits
slices.py          pure: live positions as JSON, some hundred at a time
snapshots.py       snapshots for who subscribes: at once, or a slice in a turn
state.py           what a race is made of between crashes
turns.py           what is long for one turn, a piece in a turn
window.py          pure: changes on their way to dashboards: gathered, then cut into events
"""
