"""What the daemon costs, beside what else does the same job, on one machine in one run.

    python -m tests.benchmarks             all of these, and one table of what is to be reached
    python -m tests.benchmarks.ingest      from publisher to committed row, beside paho alone and the peer
    python -m tests.benchmarks.fanout      one race to 1 to 1,000 dashboards, plain and compressed, beside the peer
    python -m tests.benchmarks.growth      more races, more participants; questions to a table of 10 million rows
    python -m tests.benchmarks.begin       thousands of races that begin at once
    python -m tests.benchmarks.nodes       several nodes: what the relay costs, how much later others show it
    python -m tests.benchmarks.capacity    a model of what nodes cost, and how well it foretells two and three of them
    python -m tests.benchmarks.snapshots   60,000 participants for 100 dashboards that ask at once
    python -m tests.benchmarks.exports     a race of 10 million rows as a file
    python -m tests.benchmarks.recovery    a backlog in the broker
    python -m tests.benchmarks.startup     until ready

Each prints a table of medians with (lowest to highest), writes all its results as JSON, and has --help and --quick.
`--peer FOLDER` adds the peer, the same job in Node, built by `npm ci && npm run build`. Numbers of different minutes on
a shared machine cannot be compared: what is compared takes turns in one run, under the same publisher, dashboards and
questions to PostgreSQL. An older checkout is a second subject:

    python -m tests.benchmarks.against OLDER/supervisor.py ingest --repeat 3 -- --rates 1000
"""
