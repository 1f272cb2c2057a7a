"""The tracking daemon: a map of its rooms. supervisor.py has the wiring; each room's __init__.py names its files.

 broker ──QoS 1──▶ ingest ──▶ races: one actor each ──▶ history ──▶ PostgreSQL
    mqtt/   ▲        │           │        │                │
            │        └──rejections──────────────────────▶│
            └────────── acks, in order ◀── settled ────────┘   only after COMMIT
                                 │        └──▶ cache ──▶ Redis (newest position)
                                 └──▶ dashboards: one actor a WebSocket

A race gets its messages by a memory channel (races/mailbox.py), from the directory of races, which is called; a fix
for a race that waits is done in the reader's turn instead, which is an optimisation (races/shortcut.py).

Start order, sinks first: embedded servers, persistence, live state, control, listener (subscribers come and go under
it), races (each race comes and goes), relay, stand-by, reader. A stop goes the other way, after the reader has drained.

A fix travels through these:

  mqtt/          the link to the broker
  ingest/        messages -> fixes and rejections -> acknowledgements
  races/         what is live: one actor a race
  history/       parcels -> durable rows, by way of spool/ while PostgreSQL is away, into postgres/
  cache/         live positions in Redis
  relay/         several nodes: what is live on one is shown by all
  standby/       several nodes: one of them reads, the others wait
  dashboards/    the ports, and one actor a dashboard
  http/          requests answered, tokens judged
  page/          the page that browsers load

They stand on these:

  core/          the words that every room speaks
  settings/      settings.ini and environment -> frozen Settings
  telemetry/     log, metrics, health
  supervision/   run, run again, stop in order
  embedded/      servers as child processes
  data_dir.py    the folder of this node: its lock, its sockets, private files
  process.py     a daemon in this process: its log, its data_dir, its signals
  drivers.py     every driver once; a simulation brings its own

And beside the daemon:

  commands/      one file a command of supervisor.py
  recordings/    files of fixes -> messages

In the maps, ACTOR owns a mailbox and is supervised; pure has no I/O, no clock, no async, so time is an argument;
driver is where threads and client libraries are. tests/test_house.py holds all of that, and who may import whom.
"""
