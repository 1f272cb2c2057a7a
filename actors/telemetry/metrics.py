"""Everything that is counted, in a registry of its own so that tests do not share it."""

from __future__ import annotations

from functools import partial

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector

from actors.core.errors import RejectionCode
from actors.core.parcel import Tally
from actors.telemetry.stall import LoopWatch

COMMIT_BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
ARRIVAL_BUCKETS_S = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.15, 0.2, 0.3, 0.5, 1, 2.5, 5, 10)


class Metrics:
    """One attribute a metric. Labels name kinds of actors, codes and reasons, never races: cardinality is bounded."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()

        counter = partial(Counter, namespace="tracking", registry=registry)
        gauge = partial(Gauge, namespace="tracking", registry=registry)
        histogram = partial(Histogram, namespace="tracking", registry=registry)
        self._of_messages(counter, gauge)
        self._of_fixes(counter, gauge)
        self._of_actors(counter, gauge)
        self._of_dashboards(counter, gauge)
        self.commit_seconds = histogram("commit_seconds", "One batch, from BEGIN to COMMIT", buckets=COMMIT_BUCKETS_S)
        self.arrival_to_socket_seconds = histogram(
            "arrival_to_socket_seconds",
            "From the arrival of a fix to its frame being handed to the first dashboard's socket",
            buckets=ARRIVAL_BUCKETS_S,
        )
        self.loop = LoopWatch()  # tracking_loop_stall_seconds, once it is added to a run of trio
        registry.register(self.loop)
        ProcessCollector(registry=registry)  # process_...: memory, CPU, file descriptors, start time

    def _of_messages(self, counter: partial[Counter], gauge: partial[Gauge]) -> None:
        self.messages_received = counter("messages_received_total", "MQTT messages taken from the broker")
        self.copies = counter("mqtt_copies_total", "MQTT messages that came again while they were in flight, dropped")
        self.acks = counter("acks_total", "MQTT messages acknowledged")
        self.messages_unacked = gauge("messages_unacked", "QoS 1 messages taken and not yet acknowledged")
        self.oldest_unacked_seconds = gauge(
            "oldest_unacked_seconds",
            "Age of the oldest message taken and not yet acknowledged, since its arrival; or 0",
        )
        self.in_flight_ratio = gauge(
            "in_flight_ratio", "Part of what may be in flight (fixes, bytes or messages) that is; at 1 nothing is read"
        )
        self.session_lost = counter("mqtt_session_lost_total", "Times that the broker had forgotten our session")
        self.broker_dropped = counter(
            "broker_dropped_total", "MQTT messages that mosquitto says it dropped for full queues, of all its clients"
        )
        self.receipts_dropped = counter(
            "mqtt_receipts_dropped_total", "Receipts that the broker does not take, or that were too many"
        )

        self.ingest_reading = gauge("ingest_reading", "1 when it is this node that reads the broker, or one of them")
        self.ingest_takeovers = counter("ingest_takeovers_total", "Times that this node began to read, with stand-by")

    def _of_fixes(self, counter: partial[Counter], gauge: partial[Gauge]) -> None:
        self.fixes_received = counter("fixes_received_total", "Fixes received; an unparsable message counts as one")
        self.fixes_recovered = counter("fixes_recovered_total", "Fixes found in the spool at start")
        self.fixes_committed = counter("fixes_committed_total", "Fixes whose row was new in PostgreSQL")
        self.fixes_written_again = counter(
            "fixes_written_again_total",
            "Fixes that PostgreSQL had confirmed, did not have after a fail-over or a crash, and got again",
        )
        self.fixes_duplicate = counter("fixes_duplicate_total", "Fixes whose row was there already")
        self.fixes_rejected = counter("fixes_rejected_total", "Fixes rejected, their rejection durable", ("code",))
        for code in RejectionCode:  # a counter that is first seen at 1 has not increased, to Prometheus
            self.fixes_rejected.labels(code=code)
        self.fixes_late = counter("fixes_late_total", "Fixes that arrived past the stale threshold")
        self.fixes_spooled = gauge("fixes_spooled", "Fixes in the spool, waiting for PostgreSQL")
        self.fixes_without_partition = gauge(
            "fixes_without_partition", "Fixes that wait, in the spool or in flight, for a partition of PostgreSQL"
        )
        self.fixes_in_flight = gauge("fixes_in_flight", "Fixes received and not yet durable")

    def _of_actors(self, counter: partial[Counter], gauge: partial[Gauge]) -> None:
        self.mailbox_depth = gauge("mailbox_depth", "Messages waiting in the deepest mailbox of a kind", ("actor",))
        self.actor_restarts = counter("actor_restarts_total", "Restarts after a crash", ("actor",))
        self.actors_parked = gauge("actors_parked", "Actors that stay down, their restart budget spent", ("actor",))
        self.component_up = gauge("component_up", "1 when the component can be used", ("component",))
        self.relay_gaps = counter(
            "relay_gaps_total", "Times that this node missed what others show, and read its races from the stores"
        )

    def _of_dashboards(self, counter: partial[Counter], gauge: partial[Gauge]) -> None:
        self.ws_connections = gauge("ws_connections", "Dashboards connected")
        self.ws_frames = counter("ws_frames_total", "Frames handed to dashboards")
        self.ws_resyncs = counter("ws_resyncs_total", "Snapshots that replaced dropped updates")
        self.ws_dropped = counter("ws_dropped_total", "Dashboards dropped or refused", ("reason",))

    def count(self, tally: Tally) -> None:
        """Add what became of rows."""
        self.fixes_committed.inc(tally.committed)
        self.fixes_duplicate.inc(tally.duplicate)
        for code, rows in tally.rejected.items():
            self.fixes_rejected.labels(code=code).inc(rows)
        self.fixes_spooled.inc(tally.spooled)
