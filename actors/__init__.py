"""The tracking daemon: a map. supervisor.py has the wiring.

 broker ──QoS 1──▶ reader ──▶ race R2025-07 ──▶ persistence ──▶ PostgreSQL
            ▲        │           race R2025-08       │
            │        └──rejections──────────────────▶│
            └────────── acks, in order ◀── settled ──┘   only after COMMIT
                                race … ──▶ live state ──▶ Redis (newest position)
                                race … ──▶ subscriber 1 … n ──▶ one WebSocket each

Start order, sinks first: embedded servers, persistence, live state, control, listener (subscribers come and go under
it), races (each race comes and goes), reader. A stop goes the other way, after the reader has drained.

Actors, and what they share:

  access.py                        who may look at what: tokens, origins, the secret that signs the tokens
  committing.py                    one batch into PostgreSQL; rows that it refuses are found
  control.py                       ACTOR: the control socket, which answers `supervisor.py status`
  data_dir.py                      the folder of this node: its lock, its sockets, private files
  drain.py                         out of the spool: its rows to PostgreSQL, the oldest first
  embedded.py                      ACTOR: PostgreSQL, Valkey and a broker as child processes
  embedded_addresses.py            where the servers are, embedded or not
  errors.py                        the exception tree, rejection codes, WebSocket close codes
  handshake.py                     who may open a WebSocket: the request head, judged before any library sees it
  health.py                        which components can be used right now
  history_answer.py                what history answers to dashboards and HTTP: races, and pages of a race
  http.py                          one request of HTTP/1.1 to the application, its answer back
  http_api.py                      the routes: API, probes, metrics
  http_documents.py                descriptions of the APIs, and what operators load: /api/*.json, /ops/
  http_export.py                   a whole race as a download, with flat memory
  http_files.py                    a file from memory, with its ETag
  http_gate.py                     what holds for every HTTP request and response
  http_page.py                     the page and its files
  listener.py                      ACTOR: the ports; a request becomes a dashboard, an answer of HTTP, or a refusal
  live_state.py                    ACTOR: the newest position of every participant, into Redis
  log.py                           one line an event to stderr, for a person or a machine
  metrics.py                       everything that is counted
  outside.py                       every driver once; a simulation brings its own
  persistence.py                   ACTOR: parcels in, committed rows out, and word that they are settled
  ports.py                         the sockets that listen, their certificate
  race.py                          ACTOR: one race, its live positions and who watches them
  race_alarm.py                    when a race has to look up by itself
  race_cell.py                     what a race is made of between crashes
  race_mailbox.py                  the messages for one race, in order
  race_messages.py                 what a race is told
  races.py                         ACTOR: the directory of races; starts and retires them
  reader.py                        ACTOR: takes messages from the broker, acknowledges what is durable
  reader_broker.py                 what the reader knows of the broker: up or down, its session, too quiet
  reader_desk.py                   what outlives a crash of the reader
  reader_messages.py               what the reader is told
  restore.py                       what a race knows when it starts
  rows.py                          what races and the reader hand to persistence
  serving.py                       one life of the daemon in this process: signals, a guest beside it
  settings.py                      settings.ini and environment -> frozen Settings, or every problem at once
  settings_table.py                one row a key: default, parser, range
  spool_account.py                 the spool, and the account of its rows that the metrics give
  spooling.py                      while PostgreSQL is away: the breaker, the spool and the drain together
  status.py                        the supervision tree as plain values
  subscriber.py                    ACTOR: one dashboard
  supervision.py                   a child runs until it is told to stop, and again when it crashes, within its budget
  tree.py                          children in start order, one stop for all of them
  unplaced.py                      rows for which PostgreSQL has no partition: where they wait, what is said of them
  unix_socket.py                   a listening Unix socket for its owner alone
  waiting.py                       connections that wait for a request

core: PURE. No async, no clock, no I/O, no logging; time is an argument.

  core/address.py                  where servers listen, and how to log in; hosts and origins
  core/batch.py                    parcels -> batches, by size, time or idleness
  core/breaker.py                  whether PostgreSQL is away, and when the spool takes over
  core/broker_drops.py             what mosquitto says it has thrown away
  core/broker_url.py               where the broker listens, perhaps several nodes of it
  core/course.py                   a made-up race
  core/cursor.py                   the cursor of get_history as text
  core/decode.py                   topic and payload -> fixes and rejections: the quick way
  core/endings.py                  how the connection of a dashboard ends
  core/export.py                   fixes as jsonl, csv, geojson, gpx
  core/file_name.py                ids as names of files, and names as the system has them
  core/fix.py                      a fix, and a rejection
  core/head.py                     the head of an HTTP request
  core/http_query.py               paths and query strings -> values, or what is wrong
  core/identity.py                 ids that are functions of what they name
  core/ids.py                      ids of participants and races: which are valid, and their one form
  core/judge.py                    topic and payload -> fixes and rejections: the careful way, which rule is broken
  core/kept.py                     what a tracker keeps until its receipt
  core/ledger.py                   what is taken and not acknowledged; which acknowledgements may go out now
  core/mqtt_attempts.py            which node of the broker is tried next, and when
  core/mqtt_deliveries.py          messages of one connection on their way to the reader, PUBACKs on the way back
  core/mqtt_end.py                 why a connection to the broker ended, and what follows from it
  core/mqtt_outgoing.py            receipts on their way, and those that the broker ends the connection at
  core/mqtt_split.py               PUBLISH packets out of the broker's bytes
  core/mqtt_version.py             MQTT 5, or 3.1.1 where the broker does not have it
  core/once.py                     a log line at most once a second, with a count of the rest
  core/outbox.py                   frames for one dashboard: bounded; overflow -> resync
  core/parcel.py                   what is settled as a whole, and word that it is
  core/partitions.py               fixes without a partition: what is settled without them, what an operator is told
  core/position.py                 a position as JSON, written and read back
  core/printable.py                texts of strangers for a person's eyes
  core/problem.py                  what an HTTP client is told when something is wrong
  core/quarantine.py               which part of a piece of work crashes whoever does it
  core/queries.py                  what is asked of history, and the shapes of the answers
  core/query_fields.py             what clients ask of history, and the sentences where they may not
  core/rate.py                     how many requests a dashboard may make
  core/receipt.py                  what a tracker is told after the commit
  core/rejection.py                what is kept of a payload that broke a rule, or of a fix that nobody can take
  core/requests.py                 one text frame of a dashboard -> a request, or an error
  core/restart.py                  crash times -> wait this long, or the budget is spent
  core/settings_ini.py             the text of a settings file -> sections, and faults of form
  core/settings_problems.py        how problems of the settings read
  core/settings_rules.py           rules between keys
  core/settings_values.py          the text of one key -> its value
  core/silence.py                  nothing comes, though something could: said once
  core/spooled.py                  fixes and rejections as the spool's tables hold them
  core/standing.py                 one race: live positions, who is stale, what a set of fixes changes
  core/tile_url.py                 where map tiles come from
  core/timestamps.py               moments as text and as Unix ms
  core/topic_filter.py             MQTT topic filters: which are valid, what they match
  core/window.py                   changes on their way to dashboards: gathered, then cut into events
  core/wire.py                     positions and events -> JSON, once a change

drivers: the only place with threads and client libraries.

  drivers/bell.py                  wakes a thread that waits for a socket
  drivers/embedded_broker.py       mosquitto where it is installed, else NATS
  drivers/embedded_nats.py         an own NATS server as a broker
  drivers/embedded_postgres.py     initdb, start and database of an own PostgreSQL
  drivers/embedded_valkey.py       an own Valkey
  drivers/history.py               reads from PostgreSQL, on connections of their own
  drivers/history_sql.py           the questions to history as SQL
  drivers/libpq.py                 one connection to PostgreSQL on trio, no thread
  drivers/log_writer.py            log lines to stderr from a thread of their own
  drivers/migration.py             schema.sql, only what is missing
  drivers/mqtt.py                  a link to the broker that stays: the trio side
  drivers/mqtt_connection.py       one connection to the broker, CONNECT to its end
  drivers/mqtt_drops.py            the question to mosquitto what it throws away
  drivers/mqtt_events.py           what the link to the broker tells the reader
  drivers/mqtt_orders.py           what the trio side wants of the thread
  drivers/mqtt_paho.py             paho, with what was found wanting changed
  drivers/mqtt_rival.py            does another client use our client_id?
  drivers/mqtt_socket.py           the buffered socket under paho
  drivers/mqtt_thread.py           the thread that owns paho
  drivers/mqtt_topics.py           our subscriptions, and old ones that the session may hold
  drivers/partitions.py            which ids have no partition?
  drivers/pgbinary.py              values in PostgreSQL's binary form
  drivers/postgres.py              writes to PostgreSQL: one statement a batch
  drivers/postgres_home.py         where the embedded PostgreSQL lives, and as whom it runs
  drivers/process.py               child processes, recorded so that the next start finds them
  drivers/publisher.py             publishes for the commands, until all is acknowledged
  drivers/publisher_connection.py  one connection of the publisher
  drivers/redis.py                 the cache: short deadlines, no retries, a breaker
  drivers/redis_errors.py          a Redis that is the wrong server, by name
  drivers/redis_script.py          the script that writes live positions
  drivers/spool.py                 rows on this node's disk while PostgreSQL is away: the trio side
  drivers/spool_file.py            rows in and out of its file, every commit synced
  drivers/spool_errors.py          how SQLite and the system say what is wrong with it
  drivers/spool_open.py            opening it: settings, a look at the whole file, what is damaged put aside
  drivers/spool_rescue.py          the readable rows of a damaged one
  drivers/spool_sql.py             its tables and statements
  drivers/sqlstate.py              what an error of PostgreSQL means for us
  drivers/standby.py               is a synchronous standby missing?
  drivers/stream.py                the bytes under one connection: put back, written whole
  drivers/table_check.py           can we write the table that this database has?
  drivers/websocket.py             one WebSocket: trio-websocket reads, prebuilt frames are written beside it

commands: one file a command of supervisor.py, and what they share.

  commands/arguments.py            types of arguments that several take
  commands/check.py                validates, reaches, warns
  commands/check_servers.py        reaching an external broker once
  commands/check_stores.py         reaching an external Redis and PostgreSQL once
  commands/demo.py                 the daemon with a made-up race beside it
  commands/early_stop.py           a signal in the first second, before anybody listens
  commands/export.py               history to a file
  commands/export_files.py         what it is written to: one file, or a file a participant
  commands/migrate.py              applies schema.sql
  commands/parser.py               the command line
  commands/publisher.py            what replay and simulate share
  commands/rejections.py           what was rejected and why
  commands/replay.py               publishes a recording
  commands/run.py                  the daemon in the foreground; what supervisor.py hands to the commands
  commands/simulate.py             publishes a made-up race
  commands/status.py               shows the tree
  commands/terminal.py             text for any terminal, and data
  commands/token.py                prints a dashboard token

recordings: files of fixes -> messages, each judged before anything is published.

  recordings/__init__.py           says how a further format comes in
  recordings/gpx.py                GPX -> points
  recordings/judging.py            points -> fixes, or why not
  recordings/lines.py              JSON lines -> messages
  recordings/points.py             what readers give, and the account of what came of it
  recordings/recording.py          a file of any kind, and what of it is wanted
  recordings/source.py             the bytes of a file, unpacked, and of what kind they are
  recordings/times.py              times as recordings have them
  recordings/xml_text.py           XML in any encoding -> text

api: what is served as /api/openapi.json and /api/asyncapi.json.

  api/__init__.py                  makes the folder a part of the package
  api/asyncapi.json                WebSocket: every message, code and close
  api/openapi.json                 HTTP: every route and answer
  api/schemas.json                 shapes that both have

ops: what is served at /ops/.

  ops/__init__.py                  makes the folder a part of the package
  ops/alerts.yml                   Prometheus alert rules
  ops/grafana.json                 a Grafana dashboard
  ops/index.html                   says what is there

dashboard: static files, no build step.

  dashboard/__init__.py            makes the page a part of the package
  dashboard/app.js                 what the page does
  dashboard/begin.js               where a race begins in its history
  dashboard/camera.js              which part of the world is in view
  dashboard/clock.js               the server's clock, as the page knows it
  dashboard/colours.css            light and dark
  dashboard/connection.js          one WebSocket that comes back by itself
  dashboard/cover.js               which edges of the map lie behind something
  dashboard/filter.js              which participants are shown
  dashboard/gaps.js                holes in the trails that are drawn, filled from history
  dashboard/gestures.js            fingers, mouse, wheel and keys on the map
  dashboard/ground.js              graticule and scale bar
  dashboard/history.js             pages of history, one at a time
  dashboard/icon.svg               its icon
  dashboard/index.html             the page
  dashboard/labels.js              names beside participants, where there is room
  dashboard/list.js                the list of participants, of which only visible rows exist
  dashboard/map.js                 the map: draws when something has changed
  dashboard/markers.js             participants as dots, or thousands as cells
  dashboard/mercator.js            Web Mercator
  dashboard/pace.js                how often somebody sends, and which silence is a hole
  dashboard/palette.js             light or dark, and colours for a canvas
  dashboard/panel.js               one participant in detail
  dashboard/picker.js              the list of races
  dashboard/race.js                one race as the page knows it
  dashboard/recording.js           history in memory, and where everybody was at a moment
  dashboard/replay.js              the past, played again
  dashboard/session.js             the token and the race, as this tab remembers them
  dashboard/settings.js            what the page knows of the server's settings
  dashboard/state.js               what the page says of its connection
  dashboard/style.css              how it looks
  dashboard/text.js                values as people read them
  dashboard/tiles.js               map tiles, where some are set
  dashboard/trails.js              where participants came from
  dashboard/why.js                 why a WebSocket does not open
"""
